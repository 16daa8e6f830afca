//! Reads `include/pgaad.h`: what it declares, and what its comments say of it.
//!
//! A comment is paragraphs of prose, then one list. An entry of the list begins with a parameter's name, a status,
//! `Waits` or `Fails`, a colon and a blank; lines that go on with it are indented by two. Everything else is an error.

/// The whole header.
pub struct Header {
    pub version: String,
    /// What its first comment says of all functions, by their first words: `Strings`, `Threads` and so on.
    pub conventions: Vec<(String, String)>,
    pub items: Vec<Item>,
}

/// A function, a type or a status.
pub struct Item {
    pub name: String,
    pub kind: Kind,
    /// The declaration without parameters: `pgaad_status pgaad_reset`, `typedef void (*pgaad_token_fn)`.
    pub head: String,
    pub parameters: Vec<Parameter>,
    pub prose: Vec<String>,
    /// What the list says of parameters and statuses, of `Waits` and `Fails`.
    pub list: Vec<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Function,
    Type,
    /// With its number.
    Status(i32),
}

pub struct Parameter {
    /// `const char *`
    pub kind: String,
    pub name: String,
}

/// What may stand between declarations.
const BETWEEN: [&str; 4] = ["#ifdef __cplusplus", "extern \"C\" {", "}  // extern \"C\"", "#endif"];

impl Header {
    pub fn read(text: &str) -> Result<Self, String> {
        let mut chunks = text.split("/**\n");
        let first = chunks.next().unwrap_or_default();
        let version = first.split("PGAAD_VERSION \"").nth(1).and_then(|rest| rest.split('"').next());
        Ok(Self {
            version: version.ok_or("the header has no PGAAD_VERSION")?.to_owned(),
            conventions: conventions(first),
            items: chunks.map(Item::read).collect::<Result<_, _>>()?,
        })
    }

    /// Functions and types have pages.
    pub fn named(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !matches!(item.kind, Kind::Status(_)))
    }

    pub fn find(&self, name: &str) -> Result<&Item, String> {
        self.items.iter().find(|item| item.name == name).ok_or(format!("the header has no {name}"))
    }
}

impl Item {
    /// Reads a comment without its first line, the declaration, and what else there is before the next comment.
    fn read(chunk: &str) -> Result<Self, String> {
        let (comment, code) =
            chunk.split_once(" */\n").ok_or(format!("a comment without an end: {chunk}"))?;
        let (declaration, rest) = match code.starts_with("#define ") {
            true => code.split_once('\n'),
            false => code.split_once(';'),
        }
        .ok_or(format!("a declaration without an end: {code}"))?;
        let is_known = |line: &str| line.is_empty() || BETWEEN.iter().any(|known| line.starts_with(known));
        if let Some(line) = rest.lines().find(|line| !is_known(line)) {
            return Err(format!("no comment says what this is: {line}"));
        }
        let mut item = declared(declaration)?;
        let lines = comment.lines().map(|line| line.strip_prefix(" *").unwrap_or(line));
        item.describe(lines.map(|line| line.strip_prefix(' ').unwrap_or(line)))
            .map_err(|error| format!("the comment of {}: {error}", item.name))?;
        Ok(item)
    }

    fn describe<'a>(&mut self, lines: impl Iterator<Item = &'a str>) -> Result<(), String> {
        let (mut is_new, mut in_list) = (true, false);
        for line in lines {
            let entry = line.split_once(": ").filter(|(head, _)| is_word(head));
            match entry {
                _ if line.is_empty() => {}
                _ if line.starts_with("  ") && in_list && !is_new => {
                    append(&mut self.list.last_mut().unwrap().1, line)
                }
                Some((head, text)) if (is_new || in_list) && self.may_say(head) => {
                    in_list = true;
                    self.list.push((head.to_owned(), text.to_owned()));
                }
                Some((head, _)) => return Err(format!("\"{head}:\" has no place here")),
                None if in_list || line.starts_with(' ') => {
                    return Err(format!("\"{line}\" belongs to nothing"));
                }
                None if is_new => self.prose.push(line.to_owned()),
                None => append(self.prose.last_mut().unwrap(), line),
            }
            is_new = line.is_empty();
        }
        Ok(())
    }

    /// Whether the list may have an entry of this name.
    fn may_say(&self, head: &str) -> bool {
        head.starts_with("PGAAD_")
            || ["Waits", "Fails"].contains(&head)
            || self.parameters.iter().any(|parameter| parameter.name == head)
    }

    /// What the list says of one thing.
    pub fn says(&self, head: &str) -> Option<&str> {
        self.list.iter().find(|(name, _)| name == head).map(|(_, text)| text.as_str())
    }
}

/// Reads a declaration.
fn declared(text: &str) -> Result<Item, String> {
    let text = words(text);
    let item = |name: &str, kind, head: &str, parameters| Item {
        name: name.into(),
        kind,
        head: head.into(),
        parameters,
        prose: Vec::new(),
        list: Vec::new(),
    };
    if let Some(define) = text.strip_prefix("#define ") {
        let (name, number) = define.split_once(' ').ok_or(format!("no number: {text}"))?;
        let number = number.parse().map_err(|_| format!("no number: {text}"))?;
        return Ok(item(name, Kind::Status(number), name, Vec::new()));
    }
    let kind = if text.starts_with("typedef ") { Kind::Type } else { Kind::Function };
    let Some((head, parameters)) = text.strip_suffix(')').and_then(|text| text.rsplit_once('(')) else {
        return Ok(item(last_word(&text), kind, &text, Vec::new()));
    };
    let parameters = match parameters {
        "void" => Vec::new(),
        some => some.split(", ").map(parameter).collect(),
    };
    Ok(item(last_word(head.trim_end_matches(')')), kind, head, parameters))
}

fn parameter(text: &str) -> Parameter {
    let name = last_word(text);
    Parameter { kind: text[..text.len() - name.len()].to_owned(), name: name.to_owned() }
}

/// Of the first comment what it says under headings in its first column.
fn conventions(comment: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in comment.lines().filter_map(|line| line.strip_prefix(" * ")) {
        match line.split_once("  ") {
            Some(("", more)) => append(&mut found.last_mut().expect("a heading comes first").1, more),
            Some((head, text)) if is_word(head) => found.push((head.to_owned(), text.trim().to_owned())),
            _ => {}
        }
    }
    found
}

/// With one blank between words.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn append(text: &mut String, line: &str) {
    text.push(' ');
    text.push_str(line.trim());
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_of_word)
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn last_word(text: &str) -> &str {
    &text[text.rfind(|c| !is_of_word(c)).map_or(0, |at| at + 1)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(comment: &str) -> Result<Item, String> {
        Item::read(&format!(
            "{comment} */\npgaad_status pgaad_x(char **token,\n    char **errmsg);\n\n#endif\n"
        ))
    }

    #[test]
    fn a_declaration_and_its_comment_are_read() {
        let item = item(
            " * Gets a\n * token.\n *\n * And more.\n *\n * token: out,\n *   freed.\n * PGAAD_CONFIG: no.\n",
        );
        let item = item.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (item.name.as_str(), item.kind, item.head.as_str()),
            ("pgaad_x", Kind::Function, "pgaad_status pgaad_x")
        );
        assert_eq!(item.prose, ["Gets a token.", "And more."]);
        assert_eq!((item.says("token"), item.says("PGAAD_CONFIG")), (Some("out, freed."), Some("no.")));
        assert_eq!(
            (item.parameters[0].kind.as_str(), item.parameters[0].name.as_str()),
            ("char **", "token")
        );
    }

    #[test]
    fn a_type_of_functions_has_its_name_inside() {
        let item = declared("typedef void *(*pgaad_symbol_fn)(const char *symbol, void *userdata)").unwrap();
        assert_eq!(
            (item.name.as_str(), item.head.as_str()),
            ("pgaad_symbol_fn", "typedef void *(*pgaad_symbol_fn)")
        );
    }

    #[test]
    fn what_has_no_place_is_an_error() {
        for (comment, wrong) in [
            (" * Gets.\n *\n * tokn: out.\n", "\"tokn:\" has no place"),
            (" * Gets.\n * token: out.\n", "\"token:\" has no place"),
            (" * Gets.\n *\n * token: out,\n * freed.\n", "\"freed.\" belongs to nothing"),
            (" * Gets.\n *\n * token: out.\n *\n * And more.\n", "\"And more.\" belongs to nothing"),
            (" *   Gets.\n", "belongs to nothing"),
        ] {
            let error = item(comment).err().unwrap_or_default();
            assert!(error.contains(wrong), "{comment}: {error}");
        }
        let error = Item::read(" * X.\n */\nint x(void);\nint y(void);\n").err().unwrap_or_default();
        assert_eq!(error, "no comment says what this is: int y(void);");
    }
}
