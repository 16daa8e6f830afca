//! What docs/programs.md tells people to type and to write into files.

use std::path::Path;

/// The block under `<!-- test: name -->`, as it stands there.
#[track_caller]
pub fn block(name: &str) -> String {
    let found = blocks().into_iter().find(|(known, _)| known.as_deref() == Some(name));
    found.unwrap_or_else(|| panic!("docs/programs.md has no block {name}")).1
}

/// Whether its table of messages has this one.
pub fn says(message: &str) -> bool {
    let page = page();
    let (_, table) = page.split_once("<!-- test: messages -->").expect("a table");
    table.contains(message)
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/programs.md");
    std::fs::read_to_string(path).expect("the page")
}

/// All blocks, with the names that they have.
fn blocks() -> Vec<(Option<String>, String)> {
    let page = page();
    let (mut blocks, mut name, mut inside) = (Vec::new(), None, None::<String>);
    for line in page.lines() {
        match (line.strip_prefix("<!-- test: "), &mut inside) {
            (_, Some(text)) if line == "```" => {
                blocks.push((name.take(), std::mem::take(text)));
                inside = None;
            }
            (_, Some(text)) => *text += &format!("{line}\n"),
            (Some(rest), None) => name = rest.strip_suffix(" -->").map(String::from),
            (None, None) if line.starts_with("```") => inside = Some(String::new()),
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn every_block_of_the_page_is_used() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/unchanged");
    let sources: String = std::fs::read_dir(folder)
        .expect("our own folder")
        .map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("text"))
        .collect();
    for (name, text) in blocks() {
        let name = name.unwrap_or_else(|| panic!("a block without a name: {text}"));
        assert!(sources.contains(&format!("\"{name}\"")), "nothing runs {name}");
    }
}
