//! Where answers go: to stdout as a table or as JSON, remarks to stderr.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use futures::TryStreamExt;
use kanade_client::Items;
use kanade_model::{OutputStream, Timestamp};
use serde::Serialize;

use super::{
    Format,
    failure::Done,
    table::{Cell, Tone, fields, table},
    when,
};

/// The largest page a server gives.
const LARGEST_PAGE: usize = 1000;

/// How much of a long list is wanted.
#[derive(Debug, Clone, Args)]
pub(crate) struct Paging {
    /// Show so many at most
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Paging {
    /// How many are shown; as many as there are when none.
    fn limit(&self) -> Option<usize> {
        (!self.all).then_some(self.limit as usize)
    }

    /// How many to fetch at once: what is shown, and one more to know whether there are more.
    pub(super) fn page_size(&self) -> Option<usize> {
        Some(
            self.limit()
                .map_or(LARGEST_PAGE, |limit| limit.saturating_add(1).min(LARGEST_PAGE)),
        )
    }
}

/// Whether what is written to `stream` may be coloured.
pub(super) fn colors(wanted: bool, stream: &impl IsTerminal) -> bool {
    let refused = |name: &str, of: fn(&str) -> bool| std::env::var(name).is_ok_and(|value| of(&value));
    wanted
        && stream.is_terminal()
        && !refused("NO_COLOR", |value| !value.is_empty())
        && !refused("TERM", |value| value == "dumb")
}

/// Where answers go.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
    colors: bool,
    /// Whether colours are wanted, should the stream be able to show them.
    wanted: bool,
}

impl Output {
    pub(super) fn new(format: Format, colors_wanted: bool) -> Self {
        Self {
            format,
            colors: colors(colors_wanted, &io::stdout()),
            wanted: colors_wanted,
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub(super) fn has_colors(&self) -> bool {
        self.colors
    }

    /// Whether remarks on stderr may be coloured.
    pub(super) fn has_colors_stderr(&self) -> bool {
        colors(self.wanted, &io::stderr())
    }

    /// A text in a tone, as far as colours are shown.
    pub(super) fn toned(&self, text: &str, tone: Tone) -> String {
        let style = if self.colors {
            tone.style()
        } else {
            anstyle::Style::new()
        };
        format!("{style}{text}{style:#}")
    }

    /// Writes bytes as they are.
    pub(super) fn raw(&self, bytes: &[u8]) -> Done {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    pub(super) fn line(&self, text: &str) -> Done {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Says something for people, which programs do not need.
    pub(super) fn say(&self, text: &str) -> Done {
        if self.is_json() { Ok(()) } else { self.line(text) }
    }

    /// Remarks something on stderr.
    pub(super) fn note(&self, text: &str) {
        // An answer is not worth less because a remark about it cannot be written.
        drop(writeln!(io::stderr(), "{text}"));
    }

    pub(super) fn json(&self, value: &impl Serialize) -> Done {
        let text = serde_json::to_string_pretty(value).expect("answers have string keys only");
        self.line(&text)
    }

    /// A value on a line of its own.
    pub(super) fn json_line(&self, value: &impl Serialize) -> Done {
        let text = serde_json::to_string(value).expect("answers have string keys only");
        self.line(&text)
    }

    /// Prints what a run has printed, to the same output.
    pub(super) fn print(&self, stream: OutputStream, text: &str) -> Done {
        if text.is_empty() {
            return Ok(());
        }
        match stream {
            OutputStream::Stdout => self.raw(text.as_bytes()),
            OutputStream::Stderr => Ok(io::stderr().lock().write_all(text.as_bytes())?),
        }
    }

    /// Shows an answer: as JSON, or as `people` put it.
    pub(super) fn show<T: Serialize>(&self, answer: &T, people: impl FnOnce(&T) -> String) -> Done {
        if self.is_json() {
            self.json(answer)
        } else {
            self.line(&people(answer))
        }
    }

    pub(super) fn fields(&self, lines: &[(&str, Cell)]) -> String {
        fields(lines, self.colors)
    }

    pub(super) fn table(&self, heads: &[&str], rows: Vec<Vec<Cell>>) -> String {
        table(heads, rows, self.colors, width())
    }

    /// Shows a list: as a JSON array with an item a line, written as the items come, or as a table.
    pub(super) async fn list<T: Serialize>(
        &self,
        items: Items<T>,
        paging: &Paging,
        heads: &[&str],
        row: impl Fn(&T, Timestamp) -> Vec<Cell>,
    ) -> Done {
        if self.is_json() {
            self.array(items, paging).await
        } else {
            self.rows(items, paging, heads, row).await
        }
    }

    async fn array<T: Serialize>(&self, mut items: Items<T>, paging: &Paging) -> Done {
        let mut shown = 0;
        while paging.limit().is_none_or(|limit| shown < limit) {
            let Some(item) = items.try_next().await? else {
                break;
            };
            let item = serde_json::to_string(&item).expect("answers have string keys only");
            self.raw(format!("{}{item}", if shown == 0 { "[\n" } else { ",\n" }).as_bytes())?;
            shown += 1;
        }
        self.line(if shown == 0 { "[]" } else { "\n]" })
    }

    async fn rows<T>(
        &self,
        mut items: Items<T>,
        paging: &Paging,
        heads: &[&str],
        row: impl Fn(&T, Timestamp) -> Vec<Cell>,
    ) -> Done {
        let (now, mut rows) = (when::now(), Vec::new());
        let mut more = false;
        while let Some(item) = items.try_next().await? {
            more = paging.limit().is_some_and(|limit| rows.len() >= limit);
            if more {
                break;
            }
            rows.push(row(&item, now));
        }
        if rows.is_empty() {
            self.note("nothing to show");
            return Ok(());
        }
        self.line(&self.table(heads, rows))?;
        if more {
            self.note(&format!(
                "more follow: --limit {} or --all shows them",
                paging.limit.saturating_mul(10)
            ));
        }
        Ok(())
    }
}

/// How wide the terminal is, where stdout is one.
fn width() -> Option<u16> {
    // Some programs open terminals without a size.
    comfy_table::Table::new().width().filter(|width| *width > 0)
}

/// A moment in a table.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> Cell {
    Cell::from(when::relative(at, now))
}
