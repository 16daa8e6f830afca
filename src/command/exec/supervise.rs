//! The program while it runs: it gets the signals that this process gets, and this process ends as it does.

use std::process::ExitCode;

use crate::os::signals::{self, Change, Signal, Signals};

/// How the program ended.
#[derive(Clone, Copy)]
pub(super) enum End {
    Exited(i32),
    Killed(i32),
}

/// Waits for the program's end.
pub(super) fn wait(program: u32, signals: &Signals) -> End {
    // While it was being started it was in no process group that a terminal's signal could have reached for sure.
    while let Ok(Some(signal)) = signals.next(Some(std::time::Duration::ZERO)) {
        if signals::ENDING.contains(&signal.number) && signal.sender != Some(program) {
            let _ = signals::send(program, signal.number);
        } else {
            pass_on(program, signal);
        }
    }
    loop {
        match signals::change_of(program) {
            Ok(Some(Change::Exited(code))) => return End::Exited(code),
            Ok(Some(Change::Killed(signal))) => return End::Killed(signal),
            // The shell that started this process waits for it, and not for the program.
            Ok(Some(Change::Stopped(signal))) if signals::is_of_job_control(signal) => {
                signals::yield_to(signal);
                let _ = signals::send(program, libc::SIGCONT);
            }
            Ok(Some(Change::Stopped(_))) => {}
            Ok(None) => match signals.next(None) {
                Ok(Some(signal)) => pass_on(program, signal),
                _ => return End::Exited(super::NOT_RUN.into()),
            },
            // Somebody else took its status.
            Err(_) => return End::Exited(super::NOT_RUN.into()),
        }
    }
}

/// The terminal's reach the whole process group, the program too. What the program sends to its group it has itself.
fn pass_on(program: u32, signal: Signal) {
    let is_wanted = signal.sender.is_some_and(|sender| sender != program);
    if is_wanted && signal.number != libc::SIGCHLD {
        let _ = signals::send(program, signal.number);
    }
}

/// Ends as the program did.
pub(super) fn end(end: End) -> ExitCode {
    match end {
        End::Exited(code) => ExitCode::from(code.to_le_bytes()[0]),
        End::Killed(signal) => die(signal),
    }
}

/// Ends by a signal. The first process of a container cannot: then with a shell's code for it.
pub(super) fn die(signal: i32) -> ExitCode {
    signals::yield_to(signal);
    ExitCode::from(128_u8.wrapping_add(signal.to_le_bytes()[0]))
}
