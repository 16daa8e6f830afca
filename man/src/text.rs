//! Reads the texts in `man/pages`. Their lines:
//!
//! ```text
//! # SECTION
//! ## A heading in it
//! Prose, up to an empty line. `bold`, <italic>; names of pgaad's and libpq's functions and variables by themselves.
//! = term
//! What it means, up to an empty line or the next term.
//! | a table's | heading |
//! | and       | its rows |
//!     code, indented by four
//! %statuses     what the header has: %statuses, %conventions
//! ```

/// A piece of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    Heading(String),
    Prose(String),
    Term(String, String),
    Table(Vec<Vec<String>>),
    Code(Vec<String>),
    Insert(String),
}

pub struct Section {
    pub title: String,
    pub blocks: Vec<Block>,
}

/// The width that code has on a terminal of eighty columns.
const WIDTH: usize = 72;

/// The sections of a text.
pub fn read(text: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    let mut is_new = true;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("# ") {
            if sections.iter().any(|section| section.title == title) {
                return Err(format!("section {title} is there twice"));
            }
            sections.push(Section { title: title.into(), blocks: Vec::new() });
        } else if line.is_empty() {
            // An empty line in code is part of it.
            if let Some(Block::Code(code)) = sections.last_mut().and_then(|section| section.blocks.last_mut())
            {
                code.push(String::new());
            }
        } else {
            let section = sections.last_mut().ok_or(format!("before the first section: {line}"))?;
            add(&mut section.blocks, line, is_new)?;
        }
        is_new = line.is_empty();
    }
    for code in sections.iter_mut().flat_map(|section| &mut section.blocks) {
        if let Block::Code(lines) = code {
            lines.truncate(lines.iter().rposition(|line| !line.is_empty()).map_or(0, |at| at + 1));
        }
    }
    Ok(sections)
}

fn add(blocks: &mut Vec<Block>, line: &str, is_new: bool) -> Result<(), String> {
    let last = blocks.last_mut();
    if let Some(code) = line.strip_prefix("    ") {
        if code.len() > WIDTH {
            return Err(format!("wider than {WIDTH} characters: {code}"));
        }
        match last {
            Some(Block::Code(lines)) => lines.push(code.into()),
            _ => blocks.push(Block::Code(vec![code.into()])),
        }
    } else if let Some(title) = line.strip_prefix("## ") {
        blocks.push(Block::Heading(title.into()));
    } else if let Some(term) = line.strip_prefix("= ") {
        blocks.push(Block::Term(term.into(), String::new()));
    } else if let Some(name) = line.strip_prefix('%') {
        blocks.push(Block::Insert(name.into()));
    } else if let Some(row) = line.strip_prefix('|') {
        let row = row.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        match last {
            Some(Block::Table(rows)) if rows[0].len() != row.len() => {
                return Err(format!("a row too long or short: {line}"));
            }
            Some(Block::Table(rows)) => rows.push(row),
            _ => blocks.push(Block::Table(vec![row])),
        }
    } else {
        match last {
            Some(Block::Prose(text) | Block::Term(_, text)) if !is_new => {
                let gap = if text.is_empty() { "" } else { " " };
                text.push_str(gap);
                text.push_str(line.trim());
            }
            _ => blocks.push(Block::Prose(line.trim().into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_is_read() {
        let text = "# A\none\ntwo\n\nthree\n= t\nx\ny\n= u\nz\n| a | b |\n| c | d |\n## H\n    code\n\n      more\n\n%statuses\n";
        let sections = read(text).unwrap();
        let own = |text: &str| text.to_owned();
        assert_eq!(
            sections[0].blocks,
            [
                Block::Prose(own("one two")),
                Block::Prose(own("three")),
                Block::Term(own("t"), own("x y")),
                Block::Term(own("u"), own("z")),
                Block::Table(vec![vec![own("a"), own("b")], vec![own("c"), own("d")]]),
                Block::Heading(own("H")),
                Block::Code(vec![own("code"), own(""), own("  more")]),
                Block::Insert(own("statuses")),
            ]
        );
    }

    #[test]
    fn what_is_no_text_is_an_error() {
        for text in
            ["x\n", "# A\n# A\n", "# A\n| a | b |\n| c |\n", &format!("# A\n    {}\n", "x".repeat(73))]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
