//! Style sheet, scripts and icons: part of the binary, under names that carry a hash of their content, so that browsers
//! keep them for good and never mix versions.

use std::{fmt, sync::LazyLock};

use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use ring::digest;

use crate::edge::inbound::problem::{Kind, Problem};

/// Where they are.
pub const PATH: &str = "/assets/{name}";

const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// One file and its address.
pub struct Asset {
    name: String,
    kind: &'static str,
    bytes: &'static [u8],
}

impl Asset {
    fn new(stem: &str, extension: &str, kind: &'static str, bytes: &'static [u8]) -> Self {
        let mut hash = hex::encode(digest::digest(&digest::SHA256, bytes).as_ref());
        hash.truncate(12);
        Self { name: format!("{stem}-{hash}.{extension}"), kind, bytes }
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/assets/{}", self.name)
    }
}

/// All files of the portal.
pub struct Assets {
    /// The style sheet.
    pub css: Asset,
    /// The icons, as symbols of one SVG.
    pub icons: Asset,
    /// The icon of the browser's tab.
    pub favicon: Asset,
    /// Instants in the reader's time zone, clocks that run.
    pub time_js: Asset,
    /// Regions that follow what happens.
    pub live_js: Asset,
    /// Keys.
    pub keys_js: Asset,
    /// Forms: previews, copying, the theme.
    pub forms_js: Asset,
}

macro_rules! asset {
    ($stem:literal, $extension:literal, $kind:literal) => {
        Asset::new(
            $stem,
            $extension,
            $kind,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/web/assets/", $stem, ".", $extension)),
        )
    };
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    css: asset!("tidegate", "css", "text/css; charset=utf-8"),
    icons: asset!("icons", "svg", "image/svg+xml"),
    favicon: asset!("favicon", "svg", "image/svg+xml"),
    time_js: asset!("time", "js", "text/javascript; charset=utf-8"),
    live_js: asset!("live", "js", "text/javascript; charset=utf-8"),
    keys_js: asset!("keys", "js", "text/javascript; charset=utf-8"),
    forms_js: asset!("forms", "js", "text/javascript; charset=utf-8"),
});

/// All files of the portal.
pub fn assets() -> &'static Assets {
    &ASSETS
}

impl Assets {
    fn all(&self) -> [&Asset; 7] {
        [&self.css, &self.icons, &self.favicon, &self.time_js, &self.live_js, &self.keys_js, &self.forms_js]
    }
}

/// `GET /assets/{name}`.
pub async fn handler(Path(name): Path<String>) -> Result<Response, Problem> {
    let found = assets().all().into_iter().find(|a| a.name == name);
    let asset = found.ok_or_else(|| Problem::new(Kind::NotFound, "there is no such file in this version"))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        (header::CACHE_CONTROL, FOREVER),
        (header::HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ];
    Ok((StatusCode::OK, headers, asset.bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_carry_their_content() {
        let css = assets().css.to_string();
        assert!(css.starts_with("/assets/tidegate-") && css.len() == "/assets/tidegate-".len() + 12 + 4, "{css}");
        assert_ne!(Asset::new("a", "js", "", b"1").name, Asset::new("a", "js", "", b"2").name);
    }
}
