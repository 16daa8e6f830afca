//! Makes the man pages: `manpages DIRECTORY` writes them there, in `man1`, `man3` and `man7`.
//!
//! A page of functions is what `include/pgaad.h` says of them, with what `man/pages/NAME.3.txt` adds: purpose, example,
//! whatever is too long for a header. Names that share a page with another one get a page that leads there. The pages
//! `pgaad.1` and `pgaad.7` are text alone.

mod header;
mod page;
mod roff;
mod text;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use header::Header;
use page::Page;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn main() -> ExitCode {
    let Some(out) = std::env::args_os().nth(1) else {
        eprintln!("usage: manpages DIRECTORY");
        return ExitCode::FAILURE;
    };
    match pages().and_then(|pages| write(&pages, Path::new(&out))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manpages: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All pages, by the names of their files.
fn pages() -> Result<BTreeMap<String, String>, String> {
    let header = Header::read(&read(&Path::new(HERE).join("../include/pgaad.h"))?)?;
    let common = text::read(&read(&Path::new(HERE).join("pages/common.txt"))?)?;
    let mut pages = BTreeMap::new();
    for entry in
        std::fs::read_dir(Path::new(HERE).join("pages")).map_err(|error| format!("man/pages: {error}"))?
    {
        let path = entry.map_err(|error| format!("man/pages: {error}"))?.path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((name, number)) = file.strip_suffix(".txt").and_then(|file| file.rsplit_once('.')) else {
            match file {
                "common.txt" => continue,
                other => return Err(format!("man/pages/{other} is no page")),
            }
        };
        let within = |error| format!("{file}: {error}");
        let sections = text::read(&read(&path)?).map_err(within)?;
        let page = Page { name, number, sections: &sections, common: &common, header: &header };
        let mut add = |name: &str, page| match pages.insert(format!("man{number}/{name}.{number}"), page) {
            None => Ok(()),
            Some(_) => Err(within(format!("{name} has a page already"))),
        };
        add(name, page.write().map_err(within)?)?;
        for other in &page.own()[1..] {
            add(other, format!(".so man{number}/{name}.{number}\n"))?;
        }
    }
    match header.named().find(|item| !pages.contains_key(&format!("man3/{}.3", item.name))) {
        Some(item) => Err(format!("{} has no page", item.name)),
        None => Ok(pages),
    }
}

fn write(pages: &BTreeMap<String, String>, out: &Path) -> Result<(), String> {
    for (name, page) in pages {
        let path = out.join(name);
        let written = std::fs::create_dir_all(path.parent().expect("a folder"))
            .and_then(|()| std::fs::write(&path, page));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_those_that_are_made() {
        let made = pages().unwrap_or_else(|error| panic!("{error}"));
        for (name, page) in &made {
            let stale = "it is stale: run make man";
            assert_eq!(read(&Path::new(HERE).join(name)).as_deref(), Ok(page.as_str()), "{name}: {stale}");
        }
        let folders = ["man1", "man3", "man7"].map(|folder| std::fs::read_dir(Path::new(HERE).join(folder)));
        let there = folders.into_iter().map(|folder| folder.expect("a folder").count()).sum::<usize>();
        assert_eq!(there, made.len(), "a page without a source: run make man");
    }
}
