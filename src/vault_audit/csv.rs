//! Lines of the audit log as comma-separated values (RFC 4180), for spreadsheets.

use std::borrow::Cow;
use std::io::{self, Write};

use super::Line;

/// The columns, as JSON has them.
const HEADER: [&str; 11] = [
    "id",
    "position",
    "userId",
    "action",
    "status",
    "context",
    "ipAddress",
    "userAgent",
    "sessionId",
    "requestId",
    "createdAt",
];

/// Writes lines after their header row.
pub struct CsvLines<W: Write>(csv::Writer<W>);

impl<W: Write> CsvLines<W> {
    /// Begins with the header row.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(out: W) -> io::Result<Self> {
        let terminator = csv::Terminator::CRLF;
        let mut writer = csv::WriterBuilder::new()
            .terminator(terminator)
            .from_writer(out);
        writer.write_record(HEADER)?;
        Ok(Self(writer))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&mut self, line: &Line<'_>) -> io::Result<()> {
        let (position, status) = (line.position.to_string(), line.status.to_string());
        let cells = [
            line.id,
            &position,
            line.user_id,
            line.action,
            &status,
            line.context.unwrap_or_default(),
            line.ip_address.unwrap_or_default(),
            line.user_agent.unwrap_or_default(),
            line.session_id.unwrap_or_default(),
            line.request_id.unwrap_or_default(),
            &line.created_at,
        ];
        let cells = cells.map(harmless);
        Ok(self
            .0
            .write_record(cells.iter().map(|cell| cell.as_bytes()))?)
    }

    /// Gives back what was written to.
    ///
    /// # Errors
    /// When the rest cannot be written.
    pub fn finish(self) -> io::Result<W> {
        self.0.into_inner().map_err(|error| error.into_error())
    }
}

/// A cell that no spreadsheet takes for a formula: clients choose their user agent and request id (OWASP, "CSV
/// Injection").
fn harmless(cell: &str) -> Cow<'_, str> {
    match cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => Cow::Owned(format!("'{cell}")),
        false => Cow::Borrowed(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_again_as_they_were_and_none_is_a_formula() {
        let line = |user_agent| Line {
            id: "e1",
            position: 7,
            user_id: "u1",
            action: "fetch",
            status: 200,
            context: None,
            ip_address: Some("2001:db8::1"),
            user_agent: Some(user_agent),
            session_id: None,
            request_id: Some("-1"),
            created_at: "2026-11-26T00:00:00.000Z".to_owned(),
        };
        let texts = [
            ("a \"b\", c\r\nd", "a \"b\", c\r\nd"),
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("+1", "'+1"),
            ("@x", "'@x"),
            ("\tx", "'\tx"),
            ("\rx", "'\rx"),
            ("1-2=3", "1-2=3"),
            ("Ünï", "Ünï"),
        ];
        let mut lines = CsvLines::new(Vec::new()).unwrap();
        for (written, _) in texts {
            lines.put(&line(written)).unwrap();
        }
        let bytes = lines.finish().unwrap();
        let header = bytes.split(|byte| *byte == b'\n').next().unwrap();
        assert_eq!(header.last(), Some(&b'\r'), "RFC 4180 ends lines with CRLF");
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        assert_eq!(reader.headers().unwrap(), HEADER.as_slice());
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), texts.len());
        for (record, (_, read)) in records.iter().zip(texts) {
            assert_eq!((&record[7], &record[9]), (read, "'-1"));
            assert_eq!((&record[1], &record[8]), ("7", ""));
        }
    }
}
