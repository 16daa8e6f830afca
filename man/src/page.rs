//! Puts a page together: what the header says, then what the text says, section by section.

use std::collections::{BTreeMap, BTreeSet};

use crate::header::{Header, Item, Kind, Parameter};
use crate::roff::{self, NO_HYPHENS, Names};
use crate::text::{Block, Section};

/// When the pages were last read through; every page bears it.
const DATE: &str = "2026-11-24";

/// The order of the sections that each page of functions has; those that only some have stand before EXAMPLE.
const BEFORE: [&str; 6] =
    ["SYNOPSIS", "DESCRIPTION", "ARGUMENTS", "RETURN VALUE", "BLOCKING", "THREADS AND FORK"];
const AFTER: [&str; 3] = ["EXAMPLE", "HISTORY", "SEE ALSO"];

/// A page's name and section, and its text.
pub struct Page<'a> {
    pub name: &'a str,
    pub number: &'a str,
    pub sections: &'a [Section],
    /// What all pages say of arguments that neither header nor page describe.
    pub common: &'a [Section],
    pub header: &'a Header,
}

/// Where text comes from: the function that says it.
type Said<'a> = Vec<(&'a str, String)>;

impl Page<'_> {
    /// The names that the page is about.
    pub fn own(&self) -> Vec<&str> {
        let Some(Block::Prose(names)) = self.blocks("FUNCTIONS").first() else { return vec![self.name] };
        names.split_whitespace().collect()
    }

    /// The page.
    pub fn write(&self) -> Result<String, String> {
        let own = self.own();
        if own[0] != self.name {
            return Err(format!("{} is to come first under FUNCTIONS", self.name));
        }
        let all = |kind| {
            self.header.items.iter().filter(move |item| item.kind == kind).map(|item| item.name.clone())
        };
        let names = Names {
            functions: all(Kind::Function).collect(),
            types: all(Kind::Type).collect(),
            own: own.iter().map(|name| name.to_string()).collect(),
        };
        let Some(Block::Prose(purpose)) = self.blocks("NAME").first() else {
            return Err("NAME is missing".into());
        };
        let mut body = format!(".SH NAME\n{} \\- {}\n", roff::escape(&own.join(", ")), roff::escape(purpose));
        for (title, blocks) in if self.number == "3" { self.of_functions(&own)? } else { self.as_written()? }
        {
            body.push_str(&format!(".SH \"{title}\"\n"));
            if title == "SYNOPSIS" && self.number == "3" {
                body.push_str(&self.synopsis(&own)?);
            }
            body.push_str(&roff::blocks(&blocks, &names).map_err(|error| format!("{title}: {error}"))?);
        }
        let tables = if body.contains("\n.TS\n") { roff::WITH_TABLES } else { "" };
        let from = format!("man/pages/{}.{}.txt", self.name, self.number);
        let from = if self.number == "3" { format!("include/pgaad.h and {from}") } else { from };
        Ok(format!(
            "{tables}.\\\" Made by \"make man\" from {from}: change it there.\n.TH {} {} {DATE} \"pgaad {}\" \"pgaad\"\n{NO_HYPHENS}.ad l\n{body}",
            roff::escape(&self.name.to_uppercase()),
            self.number,
            self.header.version
        ))
    }

    fn blocks(&self, title: &str) -> &[Block] {
        self.sections.iter().find(|section| section.title == title).map_or(&[], |section| &section.blocks)
    }

    /// The sections of a page that is all text.
    fn as_written(&self) -> Result<Vec<(String, Vec<Block>)>, String> {
        let sections = self.sections.iter().filter(|section| section.title != "NAME");
        sections.map(|section| Ok((section.title.clone(), self.filled_in(&section.blocks)?))).collect()
    }

    /// The sections of a page of functions.
    fn of_functions(&self, own: &[&str]) -> Result<Vec<(String, Vec<Block>)>, String> {
        let items = own.iter().map(|name| self.header.find(name)).collect::<Result<Vec<_>, _>>()?;
        let titles = self.sections.iter().map(|section| section.title.as_str());
        let special = titles.filter(|title| {
            !BEFORE.contains(title) && !AFTER.contains(title) && !["NAME", "FUNCTIONS"].contains(title)
        });
        let mut sections = Vec::new();
        for title in BEFORE.into_iter().chain(special).chain(AFTER) {
            let mut blocks = match title {
                "DESCRIPTION" => description(&items),
                "ARGUMENTS" => self.arguments(&items)?,
                "RETURN VALUE" => self.statuses(&items)?,
                "BLOCKING" => waits(&items),
                "THREADS AND FORK" => self.convention(&["Threads", "Fork"])?,
                _ => Vec::new(),
            };
            let text = self.filled_in(self.blocks(title))?;
            match title {
                // What the text says of arguments and statuses is among them already.
                "ARGUMENTS" => blocks.extend(without_terms(text)),
                // Here the text comes first: the list of statuses is long.
                "RETURN VALUE" => blocks = without_terms(text).chain(blocks).collect(),
                // Under the last function's name it would seem to be about that alone.
                "DESCRIPTION" if items.len() > 1 && !text.is_empty() => {
                    blocks.push(Block::Heading("Notes".into()));
                    blocks.extend(text);
                }
                _ => blocks.extend(text),
            }
            match (blocks.is_empty(), title) {
                (false, _) => sections.push((title.to_owned(), blocks)),
                (true, "SYNOPSIS") => sections.push((title.to_owned(), blocks)),
                (true, "ARGUMENTS") if items.iter().all(|item| item.parameters.is_empty()) => {}
                (true, _) => return Err(format!("{title} is missing")),
            }
        }
        Ok(sections)
    }

    /// Blocks, with what they take from the header.
    fn filled_in(&self, blocks: &[Block]) -> Result<Vec<Block>, String> {
        let mut filled = Vec::new();
        for block in blocks {
            match block {
                Block::Insert(name) if name == "statuses" => filled.extend(self.all_statuses()),
                Block::Insert(name) if name == "conventions" => filled.extend(
                    self.header
                        .conventions
                        .iter()
                        .map(|(head, text)| Block::Term(head.clone(), text.clone())),
                ),
                other => filled.push(other.clone()),
            }
        }
        Ok(filled)
    }

    fn all_statuses(&self) -> impl Iterator<Item = Block> {
        self.header.items.iter().filter_map(|item| match item.kind {
            Kind::Status(number) => {
                Some(Block::Term(format!("{} ({number})", item.name), item.prose.join(" ")))
            }
            _ => None,
        })
    }

    fn convention(&self, heads: &[&str]) -> Result<Vec<Block>, String> {
        let find = |head: &&str| {
            let found = self.header.conventions.iter().find(|(known, _)| known == head);
            found
                .map(|(_, text)| Block::Prose(text.clone()))
                .ok_or(format!("the header says nothing of {head}"))
        };
        heads.iter().map(find).collect()
    }

    fn synopsis(&self, own: &[&str]) -> Result<String, String> {
        let mut out = ".nf\n\\fB#include <pgaad.h>\\fR\n".to_owned();
        for name in own {
            out.push_str(&format!(".PP\n{}", roff::declaration(self.header.find(name)?)));
        }
        let uses_libpq = |block: &Block| matches!(block, Block::Code(lines) if lines.iter().any(|line| line.contains("<libpq-fe.h>")));
        let packages = if self.blocks("EXAMPLE").iter().any(uses_libpq) { "pgaad libpq" } else { "pgaad" };
        Ok(format!(
            "{out}.fi\n.PP\nCompile and link with $(pkg\\-config \\-\\-cflags \\-\\-libs {packages}).\n"
        ))
    }

    /// Each parameter once: as the text has it, then as the header has it, else as all pages have it.
    fn arguments(&self, items: &[&Item]) -> Result<Vec<Block>, String> {
        let mut order: Vec<&Parameter> = Vec::new();
        for parameter in items.iter().flat_map(|item| &item.parameters) {
            if !order.iter().any(|known| known.name == parameter.name) {
                order.push(parameter);
            }
        }
        let text = self.blocks("ARGUMENTS");
        only_of(text, &order.iter().map(|parameter| parameter.name.as_str()).collect::<Vec<_>>())?;
        let common = self
            .common
            .iter()
            .find(|section| section.title == "ARGUMENTS")
            .map_or(&[][..], |all| &all.blocks);
        let describe = |parameter: &&Parameter| {
            let name = &parameter.name;
            let mut said: Said<'_> = Vec::new();
            for item in items {
                said.extend(item.says(name).map(|text| (item.name.as_str(), text.to_owned())));
            }
            let text = match (together(said), term(text, name)) {
                (Some(header), Some(first)) => format!("{first} {}", capital(&header)),
                (Some(text), None) | (None, Some(text)) => text,
                (None, None) => term(common, name).ok_or(format!("nothing says what {name} is"))?,
            };
            Ok(Block::Term(format!("<{name}>"), capital(&text)))
        };
        order.iter().map(describe).collect()
    }

    /// The statuses that the functions return, each with when it is.
    fn statuses(&self, items: &[&Item]) -> Result<Vec<Block>, String> {
        let returning: Vec<_> = items.iter().filter(|item| item.head.starts_with("pgaad_status ")).collect();
        let mut all: BTreeMap<Status, Said<'_>> = BTreeMap::new();
        if !returning.is_empty() {
            for always in ["PGAAD_OK", "PGAAD_INVALID_ARGUMENT", "PGAAD_INTERNAL"] {
                all.insert(self.status(always)?, Vec::new());
            }
        }
        for item in returning {
            for (status, text) in self.failures(item)? {
                all.entry(status).or_default().extend(text.map(|text| (item.name.as_str(), text)));
            }
        }
        let text = self.blocks("RETURN VALUE");
        only_of(text, &all.keys().map(|status| status.name).collect::<Vec<_>>())?;
        let describe = |(status, said): (Status, Said<'_>)| {
            let general = self.header.find(status.name)?.prose.join(" ");
            let text = match term(text, status.name).or_else(|| together(said)) {
                // Every function may say so of any argument.
                Some(text) if status.name == "PGAAD_INVALID_ARGUMENT" => format!("{general} Or: {text}"),
                Some(text) => capital(&text),
                None => general,
            };
            Ok(Block::Term(status.name.into(), text))
        };
        all.into_iter().map(describe).collect()
    }

    fn status<'a>(&'a self, name: &str) -> Result<Status<'a>, String> {
        let item = self.header.find(name)?;
        match item.kind {
            Kind::Status(number) => Ok(Status { number, name: &item.name }),
            _ => Err(format!("{name} is no status")),
        }
    }

    /// The statuses of one function: those that its `Fails` names, those of functions that it names, and its own, which
    /// say more. Without a text a status is here what it is everywhere.
    fn failures(&self, item: &Item) -> Result<BTreeMap<Status<'_>, Option<String>>, String> {
        let mut all = BTreeMap::new();
        let fails = item.says("Fails").unwrap_or_default();
        for word in fails.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("PGAAD_") {
                all.insert(self.status(word)?, None);
            } else if word.starts_with("pgaad_") {
                all.extend(self.failures(self.header.find(word)?)?);
            }
        }
        if !fails.is_empty() && all.is_empty() {
            return Err(format!("{}: Fails names neither a status nor a function", item.name));
        }
        for (name, text) in item.list.iter().filter(|(name, _)| name.starts_with("PGAAD_")) {
            let status = self.status(name)?;
            let text = match all.get(&status) {
                None => text.clone(),
                Some(Some(shared)) => format!("{shared} Or: {text}"),
                Some(None) => format!("{} Or: {text}", self.header.find(name)?.prose.join(" ")),
            };
            all.insert(status, Some(text));
        }
        Ok(all)
    }
}

/// A status, in the order of the numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Status<'a> {
    number: i32,
    name: &'a str,
}

/// What the header says in prose, under each function's name where there are several.
fn description(items: &[&Item]) -> Vec<Block> {
    let mut blocks = Vec::new();
    for item in items {
        if items.len() > 1 {
            blocks.push(Block::Heading(item.name.clone()));
        }
        blocks.extend(item.prose.iter().map(|text| Block::Prose(text.clone())));
    }
    blocks
}

fn waits(items: &[&Item]) -> Vec<Block> {
    let said =
        items.iter().filter_map(|item| Some((item.name.as_str(), item.says("Waits")?.to_owned()))).collect();
    together(said).map(|text| Block::Prose(capital(&text))).into_iter().collect()
}

/// One text of what several functions say, each with its name unless they agree.
fn together(mut said: Said<'_>) -> Option<String> {
    let texts: BTreeSet<_> = said.iter().map(|(_, text)| text.clone()).collect();
    if texts.len() <= 1 {
        return said.pop().map(|(_, text)| text);
    }
    Some(said.iter().map(|(name, text)| format!("{name}: {text}")).collect::<Vec<_>>().join(" "))
}

fn without_terms(blocks: Vec<Block>) -> impl Iterator<Item = Block> {
    blocks.into_iter().filter(|block| !matches!(block, Block::Term(..)))
}

/// What a list says of one thing.
fn term(blocks: &[Block], name: &str) -> Option<String> {
    blocks.iter().find_map(|block| match block {
        Block::Term(term, text) if term == name => Some(text.clone()),
        _ => None,
    })
}

/// The terms of a list must be among these.
fn only_of(blocks: &[Block], known: &[&str]) -> Result<(), String> {
    match blocks.iter().find(|block| matches!(block, Block::Term(term, _) if !known.contains(&term.as_str())))
    {
        Some(Block::Term(term, _)) => Err(format!("no function has {term}")),
        _ => Ok(()),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        // A name stays as it is.
        Some(first) if !text.starts_with("pgaad_") => first.to_uppercase().chain(chars).collect(),
        _ => text.into(),
    }
}
