//! The Debian packages, in a bare Debian 12: they install, work, and go without a trace.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::APP_ONE;

use super::harness::ground;

/// What `make test-long` made below the target folder.
fn made(name: &str) -> PathBuf {
    let stage = std::env::var_os("PGAAD_STAGE").expect("make test-long names it");
    let path = Path::new(&stage).with_file_name(name);
    assert!(path.exists(), "there is no {}: run make test-long, as root", path.display());
    path
}

/// The packages, or whatever ends in this beside them.
fn built(ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(made("deb")).expect("a folder").flatten().map(|entry| entry.path());
    let found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == ending)).collect();
    assert!(!found.is_empty(), "no {ending} is there");
    found
}

/// A Debian in a folder, gone when the test ends.
struct Debian(tempfile::TempDir);

impl Debian {
    fn new() -> Self {
        let debian = made("debian");
        let root = tempfile::Builder::new().prefix("run-").tempdir_in(&debian).expect("a folder");
        fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).expect("our own");
        let mut tar = Command::new("tar");
        tar.args(["--numeric-owner", "-xpf"]).arg(debian.join("debian.tar")).arg("-C").arg(root.path());
        assert!(tar.status().expect("tar starts").success());
        Self(root)
    }

    fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        self.0.path().join(inside.strip_prefix("/").unwrap_or(inside))
    }

    fn copy_in(&self, file: &Path, inside: impl AsRef<Path>) {
        let place = self.path(inside);
        fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        fs::copy(file, place).expect("a copy");
    }

    /// What a script says that ends well. Whatever it starts or mounts ends with it, and it ends with us. Only where it is
    /// told of our servers does it have a network to call.
    #[track_caller]
    fn run_with(&self, env: &[(String, OsString)], script: &str) -> String {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--root"])
            .arg(self.0.path());
        unshare
            .args(env.is_empty().then_some("--net"))
            .args(["sh", "-euc", script])
            .env_clear()
            .envs(env.iter().cloned());
        unshare.env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        let done = unshare.env("HOME", "/root").env("DEBIAN_FRONTEND", "noninteractive").output();
        let done = done.expect("unshare starts");
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{script}: {}\n{out}\n{err}", done.status);
        out.into_owned()
    }

    #[track_caller]
    fn run(&self, script: &str) -> String {
        self.run_with(&[], script)
    }

    /// All there is, but for what tells the story of the installation or saves time.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        const STORY: [&str; 5] = ["proc", "var/log", "var/cache", "var/lib/apt", "var/lib/dpkg"];
        const DPKG: &str = "var/lib/dpkg/info";
        let root = self.0.path();
        let mut found = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
                let (about, name) = (path.symlink_metadata().expect("its metadata"), path.strip_prefix(root));
                let name = name.expect("below").to_owned();
                if about.is_dir() {
                    folders.push(path.clone());
                }
                if STORY.iter().any(|story| name.starts_with(story)) && !name.starts_with(DPKG) {
                    continue;
                }
                let what = if about.is_symlink() {
                    fs::read_link(&path).expect("a link").display().to_string()
                } else if about.is_file() {
                    let mut hasher = DefaultHasher::new();
                    fs::read(&path).expect("a file").hash(&mut hasher);
                    format!("{:x}", hasher.finish())
                } else {
                    format!("{:?}", about.file_type().is_char_device())
                };
                found.insert(name, format!("{:o} {what}", about.permissions().mode()));
            }
        }
        found
    }
}

/// What is in one of them only, or differs.
fn difference(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>) -> Vec<PathBuf> {
    let differs = |name: &&PathBuf| before.get(*name) != after.get(*name);
    before.keys().chain(after.keys()).filter(differs).cloned().collect()
}

/// What it installs is in its cache, or ours.
const APT: &str = "apt-get -qq -y -o Dpkg::Use-Pty=0";
const OURS: &str = "libpgaad0 libpgaad-dev pgaad";

/// The blocks of shell lines in the README that compile its program.
fn compilations() -> Vec<&'static str> {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```\n").next());
    blocks.filter(|block| block.starts_with("cc examples/connect.c ")).collect()
}

#[test]
fn packages_and_make_install_work_and_go_without_a_trace() {
    let debian = Debian::new();
    for package in built("deb") {
        debian.copy_in(&package, Path::new("/packages").join(package.file_name().expect("a name")));
    }
    let ground = ground();
    let env = [ground.emulator.env(&APP_ONE), ground.postgres.env(APP_ONE.role)].concat();
    for (_, value) in env.iter().filter(|(_, value)| Path::new(value).is_absolute()) {
        debian.copy_in(Path::new(value), value);
    }

    // Alone: they need nothing that isn't there.
    let before = debian.files();
    debian.run(&format!("{APT} install --no-install-recommends /packages/*.deb"));
    assert_eq!(debian.run(&format!("dpkg --verify {OURS}; dpkg --audit")), "");
    assert!(debian.run("ldconfig -p").contains("libpgaad.so.0"));
    assert!(difference(&before, &debian.files()).len() > 50, "files are seen");
    assert_eq!(debian.run("pgaad --version"), format!("pgaad {}\n", env!("CARGO_PKG_VERSION")));
    assert!(debian.run_with(&env, "pgaad token").starts_with("eyJ"));
    debian.run(&format!("{APT} purge {OURS}"));
    assert_eq!(difference(&before, &debian.files()), Vec::<PathBuf>::new());

    // With what they recommend, and a compiler: all that the README says can be done with them.
    debian.run(&format!("{APT} install gcc libc6-dev pkg-config postgresql-client /packages/*.deb"));
    let recommended =
        debian.run("dpkg-query -W -f='${Package} ${db:Status-Status}\n' libpq5 libpq-dev ca-certificates");
    assert_eq!(recommended.matches(" installed").count(), 3, "{recommended}");
    debian.copy_in(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/connect.c"),
        "/compiled/examples/connect.c",
    );
    programs_sign_in(&debian, &env);
    let said = debian.run_with(&env, "pgaad exec -- psql -Atc 'select current_user'");
    assert_eq!(said, "app-one\n");
    let files = debian.run(&format!("dpkg -L {OURS}"));
    debian.run(&format!("{APT} purge {OURS}"));
    let ours = files.lines().filter(|file| file.contains("pgaad"));
    let left: Vec<_> = ours.filter(|file| debian.path(file).symlink_metadata().is_ok()).collect();
    assert!(files.lines().count() > 50 && left.is_empty(), "{left:?}");

    // From source, by `make install` as the README says it.
    let before = debian.files();
    let make = |target: &str| {
        let mut make = Command::new("make");
        make.args(["-s", "-C", env!("CARGO_MANIFEST_DIR"), target]);
        make.arg(format!("OUT={}", made("release").display()))
            .arg(format!("DESTDIR={}", debian.path("").display()));
        assert!(make.status().expect("make starts").success());
        debian.run("ldconfig");
    };
    make("install");
    programs_sign_in(&debian, &env);
    assert_eq!(debian.run_with(&env, "pgaad exec -- psql -Atc 'select current_user'"), "app-one\n");
    make("uninstall");
    assert_eq!(difference(&before, &debian.files()), Vec::<PathBuf>::new());
}

/// The README's program, compiled in both of its ways.
#[track_caller]
fn programs_sign_in(debian: &Debian, env: &[(String, OsString)]) {
    let compilations = compilations();
    assert_eq!(compilations.len(), 2, "with the shared library and with the static one");
    for compilation in compilations {
        let program = compilation.trim_end().rsplit(' ').next().expect("its name");
        let said = debian.run_with(env, &format!("cd /compiled\n{compilation}./{program}\nrm {program}"));
        assert_eq!(said, "signed in as app-one over TLSv1.3\n", "{program}");
    }
}

#[test]
fn lintian_finds_no_error() {
    let done = Command::new("lintian").args(["--fail-on", "error"]).args(built("changes")).output();
    let done = done.expect("lintian starts");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
    println!("{said}");
}
