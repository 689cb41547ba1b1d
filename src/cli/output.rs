//! Where output goes: data on stdout, everything else on stderr. Prompts only a terminal, animates only a terminal,
//! and lets nothing through that a server could drive a terminal with.

use std::{
    io::{self, BufRead, ErrorKind, IsTerminal, Write},
    sync::{Arc, Mutex},
};

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Table, presets};
use jiff::tz::TimeZone;
use serde_json::Value;

use super::{
    exit::{Exit, Failure},
    text::{self, Tone},
};
use crate::{
    domain::time::Timestamp,
    ports::clock::{Clock, SystemClock},
};

/// Which of the three streams are terminals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminals {
    /// Questions can be asked.
    pub stdin: bool,
    /// Somebody looks at the data.
    pub stdout: bool,
    /// Somebody looks at the messages.
    pub stderr: bool,
}

/// What the global flags say about output.
#[derive(Debug, Clone, Default)]
pub struct Style {
    /// `--json`, with the fields asked for; none means all.
    pub json: Option<Vec<String>>,
    /// No messages but errors.
    pub quiet: bool,
    /// Never ask.
    pub no_input: bool,
    /// No colours.
    pub no_color: bool,
}

/// Columns below which folding a table makes it worse.
const NARROWEST: u16 = 60;

type Sink = Mutex<Box<dyn Write + Send>>;

/// The command's face to whoever runs it.
pub struct Ui {
    out: Sink,
    err: Sink,
    input: Arc<Mutex<Box<dyn BufRead + Send>>>,
    /// Which streams are terminals.
    pub tty: Terminals,
    /// What the flags say.
    pub style: Style,
    clock: Arc<dyn Clock>,
    zone: TimeZone,
    color: bool,
}

impl Ui {
    /// On the process's own streams.
    pub fn system(style: Style) -> Self {
        let tty = Terminals {
            stdin: io::stdin().is_terminal(),
            stdout: io::stdout().is_terminal(),
            stderr: io::stderr().is_terminal(),
        };
        let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let color = !style.no_color && !set("NO_COLOR") && !dumb;
        Self {
            out: Mutex::new(Box::new(io::stdout())),
            err: Mutex::new(Box::new(io::stderr())),
            input: Arc::new(Mutex::new(Box::new(io::BufReader::new(io::stdin())))),
            tty,
            style,
            clock: Arc::new(SystemClock::new()),
            zone: TimeZone::system(),
            color,
        }
    }

    /// May something on stderr be redrawn in place?
    pub fn can_animate(&self) -> bool {
        self.tty.stderr && !self.style.quiet && self.color
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Is JSON wanted?
    pub fn json(&self) -> bool {
        self.style.json.is_some()
    }

    fn write(sink: &Sink, bytes: &[u8]) -> io::Result<()> {
        let mut sink = sink.lock().map_err(|_| io::Error::other("the stream is in use"))?;
        sink.write_all(bytes)?;
        sink.flush()
    }

    /// Data: lines on stdout.
    pub fn data(&self, text: &str) -> Result<(), Failure> {
        self.raw((text::gate(text, self.color && self.tty.stdout) + "\n").as_bytes())
    }

    /// Bytes on stdout as they are: for files and pipes, never for a terminal.
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        Self::write(&self.out, bytes).map_err(|e| match e.kind() {
            ErrorKind::BrokenPipe => Failure::silent(Exit::Error),
            _ => Failure::local(format!("stdout could not be written: {e}")),
        })
    }

    /// A message on stderr. `--quiet` silences it.
    pub fn note(&self, text: &str) {
        if !self.style.quiet {
            self.say(text);
        }
    }

    /// A message on stderr that nothing silences. A stderr that cannot be written is not worth failing for.
    pub fn say(&self, text: &str) {
        let text = text::gate(text, self.color && self.tty.stderr) + "\n";
        let _ = Self::write(&self.err, text.as_bytes());
    }

    /// Clear the screen that data is shown on, before it is drawn again.
    pub fn clear_screen(&self) -> Result<(), Failure> {
        if self.tty.stdout && self.color { self.raw(b"\x1b[H\x1b[2J") } else { Ok(()) }
    }

    /// Show a failure.
    pub fn failure(&self, failure: &Failure) {
        if !failure.what.is_empty() {
            self.say(&format!("{} {failure}", text::toned(Tone::Bad, "error:")));
        }
    }

    /// Ask yes or no; anything but yes ends the command. `flag` is what to give where nobody can be asked.
    pub async fn confirm(&self, question: &str, yes: bool, flag: &str) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        let answer = self.answer(&format!("{question} [y/N] "), flag).await?;
        if matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes") { Ok(()) } else { Err(stopped()) }
    }

    /// Have a number typed, so that nobody goes on without having read it.
    pub async fn retype(&self, number: u8, yes: bool, flag: &str) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        let answer = self.answer(&format!("Type {number} to go on: "), flag).await?;
        if answer == number.to_string() { Ok(()) } else { Err(stopped()) }
    }

    /// A line that somebody types.
    async fn answer(&self, prompt: &str, flag: &str) -> Result<String, Failure> {
        if !self.tty.stdin || self.style.no_input {
            return Err(Failure::usage("nobody can be asked here, and nothing was sent")
                .next(format!("look at the terms above and give {flag} to go ahead")));
        }
        let prompt = text::gate(prompt, self.color && self.tty.stderr);
        let _ = Self::write(&self.err, prompt.as_bytes());
        let input = Arc::clone(&self.input);
        let answer = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            let mut input = input.lock().map_err(|_| io::Error::other("stdin is in use"))?;
            input.read_line(&mut line).map(|_| line)
        })
        .await
        .map_err(|e| Failure::local(format!("the answer could not be read: {e}")))?
        .map_err(|e| Failure::local(format!("the answer could not be read: {e}")))?;
        Ok(answer.trim().to_owned())
    }

    /// One thing: JSON if that is wanted, else the text.
    pub fn show(&self, value: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match &self.style.json {
            Some(fields) => self.data(&text::json_text(&pick(value, fields)?, self.tty.stdout)),
            None => self.data(&text()),
        }
    }

    /// Several things: a JSON array if that is wanted, else the text.
    pub fn show_all(&self, values: &[Value], text: impl FnOnce() -> String) -> Result<(), Failure> {
        let Some(fields) = &self.style.json else { return self.data(&text()) };
        let rows = values.iter().map(|v| pick(v, fields)).collect::<Result<Vec<_>, _>>()?;
        self.data(&text::json_text(&Value::Array(rows), self.tty.stdout))
    }

    /// One line of JSON of many.
    pub fn json_line(&self, value: &Value) -> Result<(), Failure> {
        let fields = self.style.json.as_deref().unwrap_or_default();
        self.data(&text::json_text(&pick(value, fields)?, false))
    }

    /// A table with a heading, columns parted by two spaces. Fits a terminal; never folded in a pipe.
    pub fn table(&self, head: &[&str], rows: Vec<Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        // A terminal that does not know its width gets whole lines, as a pipe does.
        if self.tty.stdout && table.width().is_some_and(|width| width >= NARROWEST) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.force_no_tty();
        }
        table.set_header(head.iter().map(|h| Cell::new(h.to_uppercase())));
        for row in rows {
            table.add_row(row.iter().map(|text| Cell::new(text::clean(text))));
        }
        for (column, name) in table.column_iter_mut().zip(head) {
            column.set_padding((0, 2));
            if *name == "id" {
                // To be copied in one piece.
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        let mut lines: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
        if let Some(first) = lines.first_mut() {
            *first = text::toned(Tone::Strong, first);
        }
        lines.join("\n")
    }

    /// An RFC 3339 instant of the server in local time.
    pub fn at(&self, instant: &str) -> String {
        self.in_words(instant, text::local)
    }

    /// The same with the distance from now.
    pub fn until(&self, instant: &str) -> String {
        self.in_words(instant, text::distance)
    }

    fn in_words(&self, instant: &str, words: fn(Timestamp, Timestamp, &TimeZone) -> String) -> String {
        match instant.parse::<Timestamp>() {
            Ok(at) => words(at, self.now(), &self.zone),
            Err(_) => text::clean(instant),
        }
    }
}

fn stopped() -> Failure {
    Failure::local("stopped").kept("Nothing was sent.")
}

/// The fields asked for; all of them if none is. A field that is not there is a mistake worth telling.
fn pick(value: &Value, fields: &[String]) -> Result<Value, Failure> {
    let Value::Object(all) = value else { return Ok(value.clone()) };
    if fields.is_empty() {
        return Ok(value.clone());
    }
    let mut out = serde_json::Map::new();
    for field in fields {
        let Some(found) = field.split('.').try_fold(value, |v, part| v.get(part)) else {
            let known = all.keys().map(|k| text::clean(k)).collect::<Vec<_>>().join(", ");
            return Err(Failure::usage(format!("--json: there is no field `{field}`")).next(format!("use: {known}")));
        };
        out.insert(field.clone(), found.clone());
    }
    Ok(Value::Object(out))
}

/// A state's name in its colour.
pub fn state(name: &str) -> String {
    let name = text::clean(name);
    match Tone::of_state(&name) {
        Some(tone) => text::toned(tone, &name),
        None => name,
    }
}

/// Lines of `name  value`, aligned; rows without a value are left out.
pub fn sheet(rows: &[(&str, Option<String>)]) -> String {
    let width = rows.iter().filter(|(_, v)| v.is_some()).map(|(n, _)| n.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, Option<String>)| value.as_ref().map(|v| format!("{name:width$}  {v}"));
    rows.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ports::clock::ManualClock;

    /// A stream that tests read back.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A face with captured streams, a clock that stands still, and UTC.
    pub(crate) fn ui(tty: Terminals, style: Style, answers: &str) -> (Ui, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let ui = Ui {
            out: Mutex::new(Box::new(out.clone())),
            err: Mutex::new(Box::new(err.clone())),
            input: Arc::new(Mutex::new(Box::new(io::Cursor::new(answers.to_owned())))),
            tty,
            color: false,
            style,
            clock: Arc::new(ManualClock::at("2026-01-31T14:00:00Z".parse().unwrap())),
            zone: TimeZone::UTC,
        };
        (ui, out, err)
    }

    #[tokio::test]
    async fn nobody_is_asked_where_nobody_sits() {
        let terminal = Terminals { stdin: true, ..Terminals::default() };
        let (pipe, ..) = ui(Terminals::default(), Style::default(), "y\n");
        let failure = pipe.confirm("Send it?", false, "-y").await.unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("-y"));
        assert!(pipe.confirm("Send it?", true, "-y").await.is_ok());
        let (no_input, ..) = ui(terminal, Style { no_input: true, ..Style::default() }, "y\n");
        assert!(no_input.confirm("Send it?", false, "-y").await.is_err());
        let (asked, out, err) = ui(terminal, Style::default(), "yes\n\n");
        assert!(asked.confirm("Send it?", false, "-y").await.is_ok());
        assert!(asked.confirm("Send it?", false, "-y").await.is_err(), "empty is no");
        assert_eq!((out.text().as_str(), err.text().as_str()), ("", "Send it? [y/N] Send it? [y/N] "));
    }

    #[test]
    fn fields_are_picked_and_mistakes_told() {
        let style = Style { json: Some(vec!["id".into(), "requester.name".into()]), ..Style::default() };
        let (face, out, _) = ui(Terminals::default(), style, "");
        let row = serde_json::json!({"id": "req_1", "requester": {"name": "ana"}, "x": 1});
        face.show_all(std::slice::from_ref(&row), || unreachable!()).unwrap();
        assert_eq!(out.text(), "[{\"id\":\"req_1\",\"requester.name\":\"ana\"}]\n");
        let failure = pick(&row, &["nope".into()]).unwrap_err();
        assert_eq!(failure.to_string(), "--json: there is no field `nope`\n  next: use: id, requester, x");
    }

    #[test]
    fn tables_are_plain_and_safe() {
        let (face, out, err) = ui(Terminals::default(), Style { quiet: true, ..Style::default() }, "");
        let rows = vec![vec!["req_1".into(), "ana\x1b[2J".into()], vec!["req_22".into(), "a\nb".into()]];
        face.data(&face.table(&["id", "by"], rows)).unwrap();
        face.note("silent");
        face.say("loud");
        assert_eq!(out.text(), "ID      BY\nreq_1   ana␛[2J\nreq_22  a b\n");
        assert_eq!(err.text(), "loud\n");
        assert_eq!(face.until("2026-01-31T14:29:59Z"), "14:29:59 (in 29m)");
        assert_eq!(sheet(&[("a", Some("1".into())), ("long", None), ("bc", Some("2".into()))]), "a   1\nbc  2");
    }
}
