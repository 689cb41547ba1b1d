//! A file of people, here or behind an https URL: CSV, a JSON array, or a JSON object on each line.
//!
//! The file is the whole truth of its source. What cannot be read of it is refused, with its line.

use std::{cell::RefCell, collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use url::Url;

use super::BuildError;
use crate::{
    domain::{
        roster::{Line, Refused, SourceConfig, read_line},
        secret::Secret,
    },
    outbound::{self, Guard},
    ports::{
        connector::Fault,
        roster::{Reading, Roster},
    },
    scim_client::resource,
};

/// No larger file is read.
const MOST_BYTES: usize = 512 * 1024 * 1024;
/// A file may take this long to come.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Lines handed on at once.
const BATCH: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Csv,
    Json,
    Jsonl,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    data_file: Option<PathBuf>,
    url: Option<Url>,
    /// Bearer token for the URL.
    token_file: Option<PathBuf>,
    #[serde(default)]
    allow_loopback: bool,
    format: Option<Format>,
    /// Between two cells of a CSV file.
    delimiter: Option<char>,
}

enum Place {
    File(PathBuf),
    Web { url: Url, token_file: Option<PathBuf>, http: reqwest::Client },
}

/// A file of people.
pub(super) struct Feed {
    place: Place,
    format: Format,
    delimiter: u8,
    mapping: Arc<BTreeMap<String, String>>,
}

impl Feed {
    pub(super) fn new(config: &SourceConfig) -> Result<Self, BuildError> {
        super::needs(config, &["external_id", "name"])?;
        let bad = |text: String| BuildError::new(config, text);
        let settings: Settings = super::settings(config)?;
        let name = match (&settings.data_file, &settings.url) {
            (Some(file), None) => file.to_string_lossy().into_owned(),
            (None, Some(url)) => url.path().to_owned(),
            _ => return Err(bad("settings: give either `data_file` or `url`".into())),
        };
        let by_name = match name.rsplit('.').next() {
            Some("csv") => Some(Format::Csv),
            Some("json") => Some(Format::Json),
            Some("jsonl" | "ndjson") => Some(Format::Jsonl),
            _ => None,
        };
        let format = settings.format.or(by_name);
        let format = format.ok_or_else(|| bad("settings: `format` must be csv, json or jsonl".into()))?;
        let delimiter = u8::try_from(settings.delimiter.unwrap_or(','))
            .map_err(|_| bad("settings: `delimiter` must be one plain character".into()))?;
        let place = match (settings.data_file, settings.url) {
            (Some(file), _) => Place::File(file),
            (None, Some(url)) => {
                outbound::check(&url, settings.allow_loopback).map_err(|p| bad(format!("settings: `url`: {p}")))?;
                #[allow(clippy::disallowed_methods, reason = "it needs its own resolver, which refuses some addresses")]
                let builder = reqwest::Client::builder();
                let http = builder
                    .redirect(reqwest::redirect::Policy::none())
                    .no_proxy()
                    .timeout(TIMEOUT)
                    .dns_resolver(Guard { allow_loopback: settings.allow_loopback })
                    .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
                    .build()
                    .map_err(|e| bad(format!("the HTTP client could not be made: {e}")))?;
                Place::Web { url, token_file: settings.token_file, http }
            }
            (None, None) => return Err(bad("settings: give either `data_file` or `url`".into())),
        };
        Ok(Self { place, format, delimiter, mapping: Arc::new(config.mapping.clone()) })
    }

    async fn fetch(&self) -> Result<Vec<u8>, Fault> {
        match &self.place {
            Place::File(file) => {
                let text = |e: std::io::Error| Fault::Unavailable(format!("{} cannot be read: {e}", file.display()));
                let size = tokio::fs::metadata(file).await.map_err(text)?.len();
                if size > MOST_BYTES as u64 {
                    return Err(too_large());
                }
                tokio::fs::read(file).await.map_err(text)
            }
            Place::Web { url, token_file, http } => {
                let mut request = http.get(url.clone());
                if let Some(file) = token_file {
                    let text = tokio::fs::read_to_string(file).await;
                    let text =
                        text.map_err(|e| Fault::Unavailable(format!("{} cannot be read: {e}", file.display())))?;
                    request = request.bearer_auth(Secret::new(text.trim().to_owned()).expose());
                }
                // Without the URL, which may hold a secret.
                let failed =
                    |e: reqwest::Error| Fault::Unavailable(format!("the feed did not come: {}", e.without_url()));
                let answer = request.send().await.map_err(failed)?;
                if !answer.status().is_success() {
                    return Err(Fault::Unavailable(format!("the feed's server answered {}", answer.status())));
                }
                let mut bytes = Vec::new();
                let mut stream = answer.bytes_stream();
                while let Some(chunk) = stream.next().await {
                    bytes.extend_from_slice(&chunk.map_err(failed)?);
                    if bytes.len() > MOST_BYTES {
                        return Err(too_large());
                    }
                }
                Ok(bytes)
            }
        }
    }

    fn parse(&self, bytes: &[u8]) -> Vec<Line> {
        match self.format {
            Format::Csv => self.csv(bytes),
            Format::Json => self.json(bytes),
            Format::Jsonl => {
                let lines = bytes.split(|b| *b == b'\n').zip(1_u64..);
                lines.filter(|(line, _)| !line.trim_ascii().is_empty()).map(|(line, n)| self.object(line, n)).collect()
            }
        }
    }

    fn object(&self, text: &[u8], number: u64) -> Line {
        match serde_json::from_slice::<Value>(text) {
            Ok(object @ Value::Object(_)) => read_line(&self.mapping, number, |path| resource::get(&object, path)),
            Ok(_) => unreadable(number, "is no object"),
            Err(e) => unreadable(number, &format!("is no JSON: {e}")),
        }
    }

    fn csv(&self, bytes: &[u8]) -> Vec<Line> {
        let mut reader = csv::ReaderBuilder::new().delimiter(self.delimiter).from_reader(bytes);
        let headers = match reader.headers() {
            Ok(headers) => headers.clone(),
            Err(e) => return vec![unreadable(1, &e.to_string())],
        };
        let columns: BTreeMap<&str, usize> = headers.iter().map(str::trim).zip(0..).collect();
        if let Some(missing) = self.mapping.values().find(|column| !columns.contains_key(column.as_str())) {
            let problem = "there is no such column".to_owned();
            return vec![Line::Refused(Refused { line: 1, external_id: None, field: missing.clone(), problem })];
        }
        let lines = reader.records().map(|record| match record {
            Ok(record) => {
                let number = record.position().map_or(0, csv::Position::line);
                read_line(&self.mapping, number, |c| columns.get(c).and_then(|at| record.get(*at)).map(str::to_owned))
            }
            Err(e) => unreadable(e.position().map_or(0, csv::Position::line), &describe(&e)),
        });
        lines.collect()
    }

    fn json(&self, bytes: &[u8]) -> Vec<Line> {
        let objects = RefCell::new(Vec::new());
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let read = reader.deserialize_seq(Objects(&objects)).and_then(|()| reader.end());
        let objects = objects.into_inner();
        let mut lines: Vec<Line> = objects
            .iter()
            .zip(1_u64..)
            .map(|(object, n)| read_line(&self.mapping, n, |path| resource::get(object, path)))
            .collect();
        if let Err(e) = read {
            // Whatever follows is not known.
            lines.push(unreadable(e.line() as u64, &format!("is no JSON: {e}")));
        }
        lines
    }
}

/// Keeps the objects of an array that came before an error.
struct Objects<'a>(&'a RefCell<Vec<Value>>);

impl<'de> de::Visitor<'de> for Objects<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(object) = seq.next_element()? {
            self.0.borrow_mut().push(object);
        }
        Ok(())
    }
}

fn describe(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} cells where there are {expected_len} columns")
        }
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        other => format!("{other:?}"),
    }
}

fn unreadable(line: u64, problem: &str) -> Line {
    let problem = problem.chars().take(200).collect();
    Line::Refused(Refused { line, external_id: None, field: "the line".to_owned(), problem })
}

fn too_large() -> Fault {
    Fault::Refused(format!("the feed has more than {MOST_BYTES} bytes"))
}

#[async_trait]
impl Roster for Feed {
    async fn open(&self) -> Result<Box<dyn Reading>, Fault> {
        let bytes = self.fetch().await?;
        let mut lines = self.parse(&bytes);
        lines.reverse();
        Ok(Box::new(Lines(lines)))
    }
}

/// What is left to hand on, last first.
struct Lines(Vec<Line>);

#[async_trait]
impl Reading for Lines {
    async fn next(&mut self) -> Result<Vec<Line>, Fault> {
        let from = self.0.len().saturating_sub(BATCH);
        let mut next = self.0.split_off(from);
        next.reverse();
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(format: &str) -> Feed {
        let config = serde_json::json!({
            "id": "hr", "kind": "feed", "settings": {"data_file": "x", "format": format},
            "mapping": {"external_id": "no", "name": "login", "department": "dept"},
        });
        Feed::new(&serde_json::from_value(config).unwrap()).unwrap()
    }

    fn seen(lines: &[Line]) -> Vec<String> {
        let one = |line: &Line| match line {
            Line::Entry(e) => format!("{}={}", e.external_id, e.name),
            Line::Refused(r) => format!("line {}: {} {}", r.line, r.external_id.as_deref().unwrap_or("?"), r.field),
        };
        lines.iter().map(one).collect()
    }

    #[test]
    fn a_csv_file_is_read_and_half_a_line_is_named() {
        let text = "\u{feff}no,login,dept\n1,ana,Sales\n2,\"b\"\"en\",\n3\n4,,x\n";
        assert_eq!(
            seen(&feed("csv").parse(text.as_bytes())),
            ["1=ana", "2=b\"en", "line 4: ? the line", "line 5: 4 login"]
        );
        assert_eq!(seen(&feed("csv").parse(b"no,dept\n1,x\n")), ["line 1: ? login"]);
    }

    #[test]
    fn an_array_that_breaks_off_gives_what_came_before() {
        let text = r#"[{"no": 1, "login": "ana"}, {"no": 2}, {"no": 3, "log"#;
        assert_eq!(seen(&feed("json").parse(text.as_bytes())), ["1=ana", "line 2: 2 login", "line 1: ? the line"]);
    }

    #[test]
    fn a_bad_line_of_jsonl_harms_only_itself() {
        let text = "{\"no\": \"1\", \"login\": \"ana\"}\n{\"no\": \"2\n\n[]\n{\"no\": \"3\", \"login\": \"eve\"}\n";
        let lines = seen(&feed("jsonl").parse(text.as_bytes()));
        assert_eq!(lines, ["1=ana", "line 2: ? the line", "line 4: ? the line", "3=eve"]);
    }
}
