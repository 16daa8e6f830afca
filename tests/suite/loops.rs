//! Two hundred connections at once in one event loop, which goes on turning whatever the services do.

use std::io::{BufRead, BufReader, Read};
use std::process::ChildStdout;

use emulator::{APP_ONE, Emulator, Fault, Gate, Libpq, Postgres};

use crate::harness::{Driver, Line, Running, each, program, signed_in};

const LOOPS: [&str; 5] = ["select", "poll", "epoll", "libevent", "libuv"];
const MANY: usize = 200;
/// Each connects twice: libpq first asks the server whose tokens it wants.
const MANY_BY_OAUTH: usize = 100;

/// The program loops.c in one of the loops, under way.
struct Turning {
    running: Running,
    said: BufReader<ChildStdout>,
}

impl Turning {
    /// `arguments`: the loop, how many connections, and options.
    fn start(driver: Driver, arguments: &[&str], how_many: usize) -> Self {
        let program = program("loops", &["-lpq", "-levent_core", "-luv"]);
        // A name would be looked up by PQconnectStart, too.
        let (name, options) = arguments.split_first().expect("a loop");
        let how_many = how_many.to_string();
        let command = [&[*name, how_many.as_str(), "hostaddr=127.0.0.1"], options].concat();
        let mut running = driver.instead(program).start(&[&command]);
        let said = BufReader::new(running.stdout().expect("a pipe"));
        Self { running, said }
    }

    #[track_caller]
    fn says(&mut self, expected: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("text");
        assert_eq!(line.trim_end(), expected);
    }

    /// What it says at its end.
    fn end(mut self) -> Vec<Line> {
        let lines = self.said.by_ref().lines().map(|line| Line(line.expect("text"))).collect();
        drop(self.running);
        lines
    }
}

/// Holds the token service, then the server's logins, while the loop turns; in the end all are connected.
fn turns_while_both_are_slow(driver: Driver, place: &Place, arguments: &[&str], how_many: usize) {
    let Place { emulator, postgres } = place;
    let (token, login) = (Gate::new(), Gate::new());
    emulator.entra().faults().next(Fault::gate(&token));
    postgres.hold_logins(Some(&login));
    let mut turning = Turning::start(driver, arguments, how_many);
    token.wait_for_arrivals(1);
    turning.says("waiting");
    token.open();
    turning.says("connecting");
    login.wait_for_arrivals(how_many);
    login.open();
    let lines = turning.end();
    println!("{arguments:?}: {lines:?}");
    let words: Vec<_> = lines.iter().map(|line| (line.command(), line.word())).collect();
    let made = how_many.to_string();
    assert_eq!(words[..3], [("made", &*made), ("failed", "0"), ("status", "PGAAD_OK")], "{lines:?}");
    // One request for all, and each with its token.
    assert_eq!(emulator.entra().counters().requests, 1);
    let binds = postgres.binds();
    assert!(
        binds.len() == how_many && binds.iter().all(|bind| bind.ok()),
        "{arguments:?}: {} logins",
        binds.len()
    );
}

struct Place {
    emulator: Emulator,
    postgres: Postgres,
}

impl Place {
    fn start(server: fn(&Emulator) -> Postgres) -> Self {
        let emulator = Emulator::start();
        let postgres = server(&emulator);
        Self { emulator, postgres }
    }

    fn driver(&self) -> Driver {
        signed_in(&self.emulator).envs(self.postgres.env(APP_ONE.role))
    }
}

#[test]
fn a_slow_token_service_and_a_slow_server_keep_no_loop_from_turning() {
    each(&LOOPS, |name| {
        let place = Place::start(Postgres::start);
        turns_while_both_are_slow(place.driver(), &place, &[name], MANY);
    });
}

#[test]
fn nor_does_a_server_that_asks_for_oauthbearer() {
    let mut able = Libpq::all();
    able.retain(|libpq| libpq.version >= 18);
    let rows: Vec<_> = able.iter().flat_map(|libpq| ["epoll", "libuv"].map(|name| (libpq, name))).collect();
    each(&rows, |(libpq, name)| {
        let place = Place::start(Postgres::start_18);
        let driver = place.driver().with_libpq(libpq);
        turns_while_both_are_slow(driver, &place, &[name, "oauth"], MANY_BY_OAUTH);
    });
}

#[test]
fn a_token_that_cannot_be_had_ends_all_of_them_at_once() {
    each(&LOOPS, |name| {
        let place = Place::start(Postgres::start);
        let Place { emulator, postgres } = &place;
        let gate = Gate::new();
        emulator.entra().faults().always(Fault::status(401, "invalid_client", 7000215).at_gate(&gate));
        let mut turning = Turning::start(place.driver(), &[name], MANY);
        gate.wait_for_arrivals(1);
        turning.says("waiting");
        gate.open();
        let lines = turning.end();
        let words: Vec<_> = lines.iter().map(|line| (line.command(), line.word())).collect();
        assert_eq!(words[..2], [("made", "0"), ("failed", "200")], "{name}: {lines:?}");
        assert!(lines[2].0 == "status PGAAD_DENIED 200", "{name}: {lines:?}");
        assert!(lines.last().is_some_and(|line| line.0.contains("AADSTS7000215")), "{name}: {lines:?}");
        assert_eq!((emulator.entra().counters().tokens, postgres.binds().len()), (0, 0));
    });
}
