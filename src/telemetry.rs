//! Logs and metrics. No line and no label holds a secret or personal data.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{self, DefaultFields, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, LogFormat};

tokio::task_local! {
    /// The request that is being answered, for the log lines that it gives rise to. A span would be written out for each
    /// request, with or without lines.
    pub static ASKED: Asked;
}

/// A request as log lines name it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its id.
    pub id: String,
    /// Its method.
    pub method: String,
    /// The pattern of its route.
    pub route: String,
}

/// Log lines as JSON objects, with the request in them.
struct JsonLines(Format<format::Json>);

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Ok(asked) = ASKED.try_with(Asked::clone) else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        let Some(open) = line.trim_end().strip_suffix('}') else {
            return writer.write_str(&line);
        };
        let (id, method, route) = (json!(asked.id), json!(asked.method), json!(asked.route));
        writeln!(
            writer,
            "{open},\"request_id\":{id},\"method\":{method},\"route\":{route}}}"
        )
    }
}

/// The fields of a line that is text, with those of the request behind.
pub struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        DefaultFields::new().format_fields(writer.by_ref(), fields)?;
        let Ok(asked) = ASKED.try_with(Asked::clone) else {
            return Ok(());
        };
        let Asked { id, method, route } = asked;
        write!(writer, " request_id={id} method={method} route={route}")
    }
}

/// Upper bounds of the buckets of durations, in seconds.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Upper bounds of the buckets of batch sizes, in commands.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Sends log lines to standard error: text on a terminal, JSON otherwise.
pub fn logs(config: &Config) {
    let filter: Targets = config
        .log_filter
        .parse()
        .unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // A second call, as tests make, changes nothing.
    let _ = if json {
        let lines = lines.json().event_format(json_lines());
        registry.with(lines).try_init()
    } else {
        registry.with(lines.fmt_fields(TextFields)).try_init()
    };
}

fn json_lines() -> JsonLines {
    JsonLines(Format::default().json().flatten_event(true))
}

/// The recorder behind `/metrics`, one per process.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
                .and_then(|builder| {
                    builder.set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), SIZES)
                });
            let recorder = builder.expect("the buckets are not empty").build_recorder();
            let handle = recorder.handle();
            // Only a second recorder could fail here, and there is none.
            let _ = metrics::set_global_recorder(recorder);
            handle
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _};
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;

    fn file() -> Arc<File> {
        Arc::new(tempfile::tempfile().unwrap())
    }

    /// A line inside of a request, and one outside.
    fn lines(subscriber: impl Subscriber + Send + Sync, mut written: &File) -> Vec<String> {
        let asked = Asked {
            id: "r-1".into(),
            method: "GET".to_owned(),
            route: "/api/auth/ok".to_owned(),
        };
        tracing::subscriber::with_default(subscriber, || {
            ASKED.sync_scope(asked, || tracing::warn!(status = 503, "it \"failed\""));
            tracing::warn!(n = 1, "alone");
        });
        let mut text = String::new();
        written.rewind().unwrap();
        written.read_to_string(&mut text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_of_json_says_which_request_it_is_about() {
        let written = file();
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .with_writer(written.clone())
            .event_format(json_lines());
        let lines = lines(tracing_subscriber::registry().with(layer), &written);
        let lines: Vec<Value> = lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["message"], "it \"failed\"");
        assert_eq!(lines[0]["status"], 503);
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["request_id"], "r-1");
        assert_eq!(lines[0]["method"], "GET");
        assert_eq!(lines[0]["route"], "/api/auth/ok");
        assert_eq!(lines[1]["message"], "alone");
        assert_eq!(lines[1].get("request_id"), None);
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn so_does_a_line_of_text() {
        let written = file();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(written.clone())
            .fmt_fields(TextFields);
        let lines = lines(tracing_subscriber::registry().with(layer), &written);
        let end = "it \"failed\" status=503 request_id=r-1 method=GET route=/api/auth/ok";
        assert!(lines[0].ends_with(end), "{lines:?}");
        assert!(lines[1].ends_with("alone n=1"), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }
}
