//! The contract that App Service had before, and Azure ML has still.

use std::sync::Mutex;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::ask::{Ask, By, Contract, Denial, secret};
use super::{Grant, Platform, app_service, new_secret};
use crate::http::Request;
use crate::sync::lock;

/// App Service before 2019, and Azure ML.
pub struct OldAppService {
    secret: String,
    clock: Mutex<Clock>,
}

/// How `expires_on` is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `06/20/2019 02:57:58 +00:00`
    Linux,
    /// `1/16/2020 5:24:12 AM +00:00`
    Windows,
    /// Azure ML: Unix seconds, a number.
    Seconds,
}

const HEADER: &str = "secret";

const CONTRACT: Contract = Contract {
    method: "GET",
    path: "/MSI/token/",
    versions: &["2017-09-01"],
    selectors: &[("clientid", By::Client), ("principal_id", By::Object), ("mi_res_id", By::Resource)],
};

impl OldAppService {
    /// One that tells the time in this way.
    pub fn new(clock: Clock) -> Self {
        Self { secret: new_secret(), clock: Mutex::new(clock) }
    }

    /// Tells the time in this way from now on.
    pub fn tell_time(&self, clock: Clock) {
        *lock(&self.clock) = clock;
    }
}

impl Platform for OldAppService {
    const SECRET: Option<&'static str> = Some(HEADER);

    fn env(&self, origin: &str) -> Vec<(&'static str, String)> {
        vec![("MSI_ENDPOINT", format!("{origin}{}", CONTRACT.path)), ("MSI_SECRET", self.secret.clone())]
    }

    fn read(&self, request: &Request) -> Result<Ask, Denial> {
        secret(request, HEADER, &self.secret)?;
        CONTRACT.read(request)
    }

    fn code(&self, denial: &Denial) -> (u16, &'static str) {
        app_service::code(denial)
    }

    fn error(&self, status: u16, _: &str, text: &str) -> Value {
        app_service::error(status, text)
    }

    fn answer(&self, grant: &Grant) -> Value {
        let clock = *lock(&self.clock);
        json!({
            "access_token": grant.token,
            "expires_on": spell(grant.expires_on(), clock),
            "resource": grant.resource,
            "token_type": "Bearer",
        })
    }
}

fn spell(unix: i64, clock: Clock) -> Value {
    let at = OffsetDateTime::from_unix_timestamp(unix).expect("a time near the present");
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    match clock {
        Clock::Linux => {
            json!(format!("{month:02}/{day:02}/{year} {hour:02}:{minute:02}:{second:02} +00:00"))
        }
        Clock::Windows => {
            let half = if hour < 12 { "AM" } else { "PM" };
            let hour = (hour + 11) % 12 + 1;
            json!(format!("{month}/{day}/{year} {hour}:{minute:02}:{second:02} {half} +00:00"))
        }
        Clock::Seconds => json!(unix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelt_as_the_platforms_do() {
        for (unix, clock, text) in [
            (1560999478, Clock::Linux, "06/20/2019 02:57:58 +00:00"),
            (1579152252, Clock::Windows, "1/16/2020 5:24:12 AM +00:00"),
            (1579132799, Clock::Windows, "1/15/2020 11:59:59 PM +00:00"),
            (1579132800, Clock::Windows, "1/16/2020 12:00:00 AM +00:00"),
            (1579176000, Clock::Windows, "1/16/2020 12:00:00 PM +00:00"),
        ] {
            assert_eq!(spell(unix, clock), text);
        }
        assert_eq!(spell(1560999478, Clock::Seconds), 1560999478);
    }
}
