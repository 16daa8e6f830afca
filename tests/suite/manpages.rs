//! The man pages as a reader has them: every name has one, what they tell is so, and their examples compile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness;

const MAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/man");
const HEADER: &str = include_str!("../../include/pgaad.h");

/// The pages of a section, by name.
fn pages(number: u8) -> Vec<(String, PathBuf)> {
    let folder = Path::new(MAN).join(format!("man{number}"));
    let mut pages: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            let path = entry.expect("a file").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            (name.strip_suffix(&format!(".{number}")).expect("a page").to_owned(), path)
        })
        .collect();
    pages.sort();
    pages
}

fn source(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a page")
}

/// All pages that have a text of their own.
fn written() -> Vec<(String, PathBuf)> {
    let all = [1, 3, 7].into_iter().flat_map(pages);
    all.filter(|(_, path)| !source(path).starts_with(".so ")).collect()
}

/// What a program has to say, at its end well or not.
fn said(program: &str, arguments: &[&str]) -> String {
    let mut program = Command::new(program);
    let done = program.args(arguments).current_dir(MAN).env("LC_ALL", "C").output().expect("it starts");
    String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
}

/// A page as it stands on a terminal, without bold and underlined letters.
fn shown(path: &Path) -> String {
    let text = said("mandoc", &["-T", "ascii", path.to_str().expect("a path")]);
    let mut plain = String::new();
    for c in text.chars() {
        match c {
            '\x08' => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

/// The lines of a section, without its indent.
fn section(text: &str, title: &str) -> Vec<String> {
    let inside = text.lines().skip_while(|line| *line != title).skip(1);
    let inside = inside.take_while(|line| line.is_empty() || line.starts_with(' '));
    let inside: Vec<_> = inside.collect();
    let indent =
        inside.iter().filter(|line| !line.is_empty()).map(|line| line.len() - line.trim_start().len()).min();
    inside.iter().map(|line| line.get(indent.unwrap_or(0)..).unwrap_or_default().to_owned()).collect()
}

/// Each term in a section's lists, with the heading above it.
fn terms(path: &Path, title: &str) -> Vec<(String, String)> {
    let roff = source(path);
    let inside = roff.lines().skip_while(|line| *line != format!(".SH \"{title}\"")).skip(1);
    let mut inside = inside.take_while(|line| !line.starts_with(".SH"));
    let plain = |line: &str| {
        ["\\fB", "\\fI", "\\fR", "\\&"]
            .iter()
            .fold(line.replace("\\-", "-"), |line, font| line.replace(font, ""))
    };
    let (mut heading, mut terms) = (String::new(), Vec::new());
    while let Some(line) = inside.next() {
        if let Some(title) = line.strip_prefix(".SS ") {
            heading = plain(title);
            // One without options is there as well.
            terms.push((heading.clone(), String::new()));
        } else if line == ".TP" {
            terms.push((heading.clone(), plain(inside.next().expect("a term"))));
        }
    }
    terms
}

fn only(number: u8) -> PathBuf {
    let [(_, path)] = &pages(number)[..] else { panic!("one page in man{number}") };
    path.clone()
}

#[test]
fn every_name_has_a_page_and_every_page_a_name() {
    let functions = include_str!("../symbols.txt").lines().map(str::to_owned);
    let types = HEADER.lines().filter(|line| line.starts_with("typedef ")).map(|line| {
        let name = line.split_once("(*").map_or(line, |(_, rest)| rest.split(')').next().unwrap_or_default());
        name.trim_end_matches(';').rsplit(' ').next().expect("a name").to_owned()
    });
    let named: BTreeSet<String> = functions.chain(types).collect();
    assert_eq!(pages(3).into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>(), named);

    for (name, path) in pages(3) {
        let text = source(&path);
        let leads_to = text.strip_prefix(".so ").map(|target| Path::new(MAN).join(target.trim_end()));
        let names = section(&shown(leads_to.as_ref().unwrap_or(&path)), "NAME").join(" ");
        let names = names.split(" - ").next().unwrap_or_default();
        assert!(names.split(", ").any(|known| known.trim() == name), "{name} is not among {names}");
    }
}

#[test]
fn every_page_of_a_function_has_its_sections() {
    for (name, path) in pages(3).into_iter().filter(|(_, path)| !source(path).starts_with(".so ")) {
        let text = shown(&path);
        for title in [
            "SYNOPSIS",
            "DESCRIPTION",
            "RETURN VALUE",
            "BLOCKING",
            "THREADS AND FORK",
            "EXAMPLE",
            "HISTORY",
            "SEE ALSO",
        ] {
            assert!(section(&text, title).iter().any(|line| !line.is_empty()), "{name} has no {title}");
        }
    }
}

#[test]
fn the_pages_are_without_fault() {
    for (_, path) in written() {
        let path = path.to_str().expect("a path");
        assert_eq!(said("mandoc", &["-T", "lint", "-W", "warning", path]), "", "{path}");
    }
    for (_, path) in [1, 3, 7].into_iter().flat_map(pages) {
        let path = path.to_str().expect("a path");
        assert_eq!(said("groff", &["-t", "-man", "-ww", "-z", "-T", "utf8", path]), "", "{path}");
    }
}

#[test]
fn pages_that_are_named_are_there() {
    let foreign = ["close(2)", "crontab(5)", "free(3)", "psql(1)", "systemd(1)", "systemd.service(5)"];
    let of_name = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    for (name, path) in written() {
        let text = shown(&path).split_whitespace().collect::<Vec<_>>().join(" ");
        // The title is in capitals.
        let text = text.replace(&format!("{}(", name.to_uppercase()), "(");
        for (before, rest) in text.match_indices('(').map(|(at, _)| (&text[..at], &text[at + 1..])) {
            let Some(number) = rest.chars().next().filter(char::is_ascii_digit) else { continue };
            let named = &before[before.rfind(|c| !of_name(c)).map_or(0, |at| at + 1)..];
            if named.is_empty() || !rest[1..].starts_with(')') || named == named.to_uppercase() {
                continue;
            }
            let named = format!("{named}({number})");
            let page = named.replace('(', ".").replace(')', "");
            let is_ours = Path::new(MAN).join(format!("man{number}/{page}")).exists();
            assert!(is_ours || foreign.contains(&named.as_str()), "{name} names {named}");
        }
    }
}

/// The programs in an example as they can be copied from a terminal.
fn programs(path: &Path) -> Vec<String> {
    let (mut programs, mut current, mut in_main) = (Vec::new(), String::new(), false);
    for line in section(&shown(path), "EXAMPLE") {
        if current.is_empty() && !line.starts_with('#') {
            continue;
        }
        in_main |= line.starts_with("int main(");
        current.push_str(&(line.clone() + "\n"));
        if in_main && line == "}" {
            programs.push(std::mem::take(&mut current));
            in_main = false;
        }
    }
    assert_eq!(current, "", "{} has a program without an end", path.display());
    programs
}

#[test]
fn every_example_compiles_and_links() {
    let dir = tempfile::tempdir().expect("a folder");
    let pages: Vec<_> =
        written().into_iter().filter(|(_, path)| path.starts_with(Path::new(MAN).join("man3"))).collect();
    let compile = |name: &str, program: &str| {
        let path = dir.path().join(name);
        std::fs::write(path.with_extension("c"), program).expect("written");
        let mut cc = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
        cc.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]).arg(path.with_extension("c"));
        cc.arg("-I").arg(Path::new(MAN).join("../include")).args(["-isystem", "/usr/include/postgresql"]);
        cc.arg("-L").arg(harness::c_dir()).args(["-lpgaad", "-lpq", "-ldl", "-o"]).arg(path);
        let done = cc.output().expect("a C compiler");
        assert!(done.status.success(), "{name}: {}\n{program}", String::from_utf8_lossy(&done.stderr));
    };
    for (name, path) in pages {
        let programs = programs(&path);
        assert!(!programs.is_empty(), "{name} has no example");
        for (at, program) in programs.iter().enumerate() {
            compile(&format!("{name}-{at}"), program);
        }
    }
}

#[test]
fn every_setting_is_described_and_none_is_invented() {
    // `key("tenant_id", &[(DbSp, "DB_SP_TENANT_ID"), ...]),`
    let keys = include_str!("../../src/settings/keys.rs");
    let table =
        keys.split("const KEYS").nth(1).and_then(|rest| rest.split("];\n").next()).expect("the table");
    let expected = table.split("key(\"").skip(1).map(|entry| {
        let mut names = entry.split('"').step_by(2).map(str::to_owned);
        let key = names.next().expect("a key");
        let has_own = !table.contains(&format!("own_variable: false, ..key(\"{key}\""));
        let own = has_own.then(|| format!("PGAAD_{}", key.to_uppercase()));
        let aliases = entry.split('"').skip(2).step_by(2).map(str::to_owned);
        let variables: Vec<_> = own.into_iter().chain(aliases).collect();
        let variables = if variables.is_empty() { "no variable".to_owned() } else { variables.join(", ") };
        format!("{key} ({variables})")
    });
    let described =
        terms(&only(7), "SETTINGS").into_iter().map(|(_, term)| term).filter(|term| !term.is_empty());
    let described: Vec<_> = described.collect();
    let described_once: BTreeSet<_> = described.iter().cloned().collect();
    assert_eq!(described_once.len(), described.len());
    assert_eq!(described_once, expected.collect());
}

/// The options that `--help` lists, as in `-v, --verbose`.
fn options(help: &str) -> BTreeSet<String> {
    let lines = help.lines().skip_while(|line| *line != "Options:").skip(1);
    let options = lines.map(str::trim).filter(|line| line.starts_with('-'));
    let names = options.map(|line| line.split("  ").next().unwrap_or_default().trim_end_matches("..."));
    names.map(|name| name.replace(['<', '>'], "")).collect()
}

#[test]
fn the_options_of_the_command_are_those_of_its_page() {
    let pgaad = harness::command().to_str().expect("a path");
    let page = only(1);
    let listed = |terms: Vec<(String, String)>| {
        terms.into_iter().map(|(_, term)| term).filter(|term| !term.is_empty()).collect::<BTreeSet<_>>()
    };
    let general = listed(terms(&page, "OPTIONS"));
    assert_eq!(general, options(&said(pgaad, &["--help"])));

    // `## exec PROGRAM`: the command's name is in small letters.
    let commands = terms(&page, "COMMANDS");
    let name_of = |heading: &str| -> Vec<String> {
        let words = heading.split(' ').take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()));
        words.map(str::to_owned).collect()
    };
    let described: BTreeSet<_> = commands.iter().map(|(heading, _)| name_of(heading)).collect();
    let mut known = BTreeSet::new();
    let mut open = vec![Vec::new()];
    while let Some(command) = open.pop() {
        let words: Vec<_> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = said(pgaad, &words);
        let below =
            help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let below = below.map(|line| line.trim().split(' ').next().unwrap_or_default().to_owned());
        // The same as `--help`.
        let below: Vec<_> = below.filter(|name| name != "help").collect();
        open.extend(below.iter().map(|name| [&command[..], std::slice::from_ref(name)].concat()));
        if !below.is_empty() {
            continue;
        }
        let own = commands.iter().filter(|(heading, _)| name_of(heading) == command).cloned().collect();
        // Each has the general ones too, but for --version.
        let said: BTreeSet<_> = options(&help).difference(&general).cloned().collect();
        assert_eq!(listed(own), said, "{command:?}");
        known.insert(command);
    }
    assert_eq!(described, known);
}

#[test]
fn the_exit_statuses_are_the_statuses() {
    let statuses = HEADER.lines().filter_map(|line| line.strip_prefix("#define PGAAD_")?.split_once(' '));
    let statuses =
        statuses.filter(|(name, number)| !name.starts_with("VERSION") && number.parse::<u8>().is_ok());
    let expected: BTreeSet<_> =
        statuses.map(|(name, number)| (number.to_owned(), format!("PGAAD_{name}"))).collect();
    let rows = section(&shown(&only(1)), "EXIT STATUS");
    let rows = rows.iter().filter_map(|line| {
        let mut cells = line.trim().split('|').skip(1).map(|cell| cell.trim().to_owned());
        Some((cells.next().filter(|number| number.parse::<u8>().is_ok())?, cells.next()?))
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), expected);
}
