//! Writes roff, with the macros of man(7) and tbl(1).

use std::collections::BTreeSet;

use crate::header::{Item, Kind};
use crate::text::Block;

/// Which names stand out, and how.
pub struct Names {
    pub functions: BTreeSet<String>,
    pub types: BTreeSet<String>,
    /// Those that the page itself is about.
    pub own: BTreeSet<String>,
}

/// The lines of a page that has a table in it begin thus.
pub const WITH_TABLES: &str = "'\\\" t\n";

/// Names are not to be broken up. Code and tables end what the page's first lines say of it.
pub const NO_HYPHENS: &str = ".nh\n";

/// A section's text. Its first paragraph, and that under a heading, are such without being told.
pub fn blocks(blocks: &[Block], names: &Names) -> Result<String, String> {
    let mut out = String::new();
    for (at, one) in blocks.iter().enumerate() {
        let roff = block(one, names)?;
        let is_first = at == 0 || matches!(blocks[at - 1], Block::Heading(_));
        out.push_str(roff.strip_prefix(".PP\n").filter(|_| is_first).unwrap_or(&roff));
    }
    Ok(out)
}

fn block(block: &Block, names: &Names) -> Result<String, String> {
    Ok(match block {
        Block::Heading(title) => format!(".SS {}\n", prose(title, names)?),
        Block::Prose(text) => format!(".PP\n{}", lines(text, names)?),
        Block::Term(term, text) => {
            format!(".TP\n{}\n{}", protected(&bold_unless_marked(term, names)?), lines(text, names)?)
        }
        Block::Code(code) => {
            let code: String = code.iter().map(|line| protected(&escape(line)) + "\n").collect();
            format!(".PP\n.EX\n{code}.EE\n{NO_HYPHENS}")
        }
        Block::Table(rows) => table(rows, names)?,
        Block::Insert(name) => return Err(format!("nothing is called %{name}")),
    })
}

/// Prose, a sentence a line.
pub fn lines(text: &str, names: &Names) -> Result<String, String> {
    // Dots that stand for something left out end no sentence.
    let text = prose(text, names)?.replace(". ", ".\n").replace("..\n", ".. ");
    Ok(text.lines().map(|line| protected(line) + "\n").collect())
}

/// A term: bold as a whole, unless some of it is marked.
fn bold_unless_marked(term: &str, names: &Names) -> Result<String, String> {
    match term.contains(['`', '<']) {
        true => prose(term, names),
        false => Ok(format!("\\fB{}\\fR", escape(term))),
    }
}

/// Prose with its names set off: functions and types of ours, which must be there, those of libpq, and variables.
fn prose(text: &str, names: &Names) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let marked = |open: char, close: char| {
            rest.strip_prefix(open)
                .and_then(|rest| rest.split_once(close))
                .filter(|(inside, _)| !inside.is_empty())
        };
        let (piece, after) = if let Some((inside, after)) = marked('`', '`') {
            (format!("\\fB{}\\fR", escape(inside)), after)
        } else if let Some((inside, after)) = marked('<', '>') {
            (format!("\\fI{}\\fR", escape(inside)), after)
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end.max(first.len_utf8()));
            (name(word, after, names)?, after)
        };
        out.push_str(&piece);
        rest = after;
    }
    Ok(out)
}

/// A word, as it is to look where `after` follows it.
fn name(word: &str, after: &str, names: &Names) -> Result<String, String> {
    let text = escape(word);
    let is_upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let is_variable = word.contains('_') && word.chars().all(is_upper);
    let is_of_libpq = word.len() > 2 && word.starts_with("PQ");
    let is_call = after.starts_with('(');
    let is_page = after.strip_prefix('(').is_some_and(|rest| rest.get(1..2) == Some(")"));
    let is_function = names.functions.contains(word);
    Ok(if is_function && !is_call {
        format!("\\fB{text}\\fR{}", if names.own.contains(word) { "()" } else { "(3)" })
    } else if is_function || names.types.contains(word) || is_variable || is_of_libpq || is_page {
        format!("\\fB{text}\\fR")
    } else if word.starts_with("pgaad_") && !after.starts_with('*') {
        return Err(format!("there is no {word}"));
    } else {
        text
    })
}

/// A table; where it is too wide for a terminal of eighty columns, its cells are folded, and it gets lines.
fn table(rows: &[Vec<String>], names: &Names) -> Result<String, String> {
    // Lines and blanks are between columns and around them.
    let limit = 72 - 3 * rows[0].len() - 1;
    let mut widths: Vec<usize> =
        (0..rows[0].len()).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    let folded = widths.iter().sum::<usize>() > limit;
    while widths.iter().sum::<usize>() > limit {
        *widths.iter_mut().max().expect("a column") -= 1;
    }
    let format = |font: &str| {
        let columns = widths.iter().map(|width| format!("l{font}w({width}n)"));
        columns.collect::<Vec<_>>().join(" ")
    };
    let mut out = format!(
        ".PP\n.TS\n{}tab(@);\n{}\n{}.\n",
        if folded { "allbox " } else { "" },
        format("b"),
        format("")
    );
    for row in rows {
        let unbroken =
            |cell: &str| lines(cell, names).map(|text| format!("\\%{}", text.replace(' ', " \\%")));
        let cells = row.iter().map(|cell| Ok(format!("T{{\n{}T}}", unbroken(cell)?)));
        out.push_str(&(cells.collect::<Result<Vec<_>, String>>()?.join("@") + "\n"));
    }
    Ok(out + ".TE\n.sp\n" + NO_HYPHENS)
}

/// A declaration as it stands under SYNOPSIS: parameters in italics, folded where it is too wide.
pub fn declaration(item: &Item) -> String {
    const WIDTH: usize = 72;
    if item.kind == Kind::Type && item.parameters.is_empty() {
        return format!("\\fB{};\\fR\n", escape(&item.head));
    }
    let longest = item.parameters.iter().map(|one| one.kind.len() + one.name.len() + 2).max().unwrap_or(0);
    // Parameters on further lines stand below the first, where they fit.
    let indent = Some(item.head.len() + 1).filter(|indent| indent + longest <= WIDTH).unwrap_or(8);
    let (mut out, mut column) = (format!("\\fB{}(", escape(&item.head)), item.head.len() + 1);
    for (at, parameter) in item.parameters.iter().enumerate() {
        let width = parameter.kind.len() + parameter.name.len() + 2;
        if column + width > WIDTH {
            out.truncate(out.trim_end().len());
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        }
        let end = if at + 1 == item.parameters.len() { "" } else { ", " };
        out.push_str(&format!("{}\\fI{}\\fB{end}", escape(&parameter.kind), escape(&parameter.name)));
        column += width;
    }
    out + if item.parameters.is_empty() { "void);\\fR\n" } else { ");\\fR\n" }
}

/// Text that roff prints as it is, so that what is copied from a terminal is what was written.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            other => out.push(other),
        }
    }
    out
}

/// A line that is no request, whatever it begins with.
fn protected(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Names { functions: set(&["pgaad_a", "pgaad_b"]), types: set(&["pgaad_t"]), own: set(&["pgaad_a"]) }
    }

    #[test]
    fn names_are_set_off_and_must_be_there() {
        for (text, roff) in [
            ("pgaad_a", "\\fBpgaad_a\\fR()"),
            ("pgaad_b, pgaad(7)", "\\fBpgaad_b\\fR(3), \\fBpgaad\\fR(7)"),
            ("pgaad_t PQreset PGAAD_OK NULL", "\\fBpgaad_t\\fR \\fBPQreset\\fR \\fBPGAAD_OK\\fR NULL"),
            ("pgaad_x_* pgaad.h `-v` <FILE> a < b", "pgaad_x_* pgaad.h \\fB\\-v\\fR \\fIFILE\\fR a < b"),
        ] {
            assert_eq!(prose(text, &names()).as_deref(), Ok(roff));
        }
        assert_eq!(prose("pgaad_x", &names()), Err("there is no pgaad_x".into()));
    }

    #[test]
    fn no_line_becomes_a_request() {
        assert_eq!(lines("One. .so two. 'x", &names()).unwrap(), "One.\n\\&.so two.\n\\(aqx\n");
        assert_eq!(escape(r"a\n-'`"), r"a\en\-\(aq\(ga");
    }
}
