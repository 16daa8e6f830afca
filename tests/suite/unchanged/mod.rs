//! Programs that nobody can change sign in, and once more when their first token has ended: as docs/programs.md tells
//! people to run them.

mod jobs;
mod messages;
mod page;
mod pgbouncer;
mod programs;
mod stage;
