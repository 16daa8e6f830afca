//! Runs each line of SQL that it reads on a new connection of tokio-postgres's, signed in with Microsoft Entra ID.
//!
//! ```sh
//! echo 'select current_user' | cargo run -- "host=myserver.postgres.database.azure.com user=app-one dbname=postgres"
//! ```

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio_postgres::{Config, SimpleQueryMessage::Row, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let entra = Arc::new(pgaad::Client::new("")?);
    // A token goes to a server whose certificate is verified, or nowhere; it is on you to name the right server.
    let mut config: Config = std::env::args().nth(1).unwrap_or_default().parse()?;
    config.ssl_mode(SslMode::Require);
    let bundle = std::env::var("PGSSLROOTCERT").unwrap_or("/etc/ssl/certs/ca-certificates.crt".into());
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_file_iter(bundle)?.flatten());
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();

    let mut lines = BufReader::new(stdin()).lines();
    while let Some(sql) = lines.next_line().await? {
        let tls = MakeRustlsConnect::new(tls.clone());
        if let Err(failure) = run(&entra, config.clone(), tls, &sql).await {
            eprintln!("{failure}");
            std::iter::successors(failure.source(), |cause| cause.source())
                .for_each(|cause| eprintln!("  {cause}"));
        }
    }
    Ok(())
}

async fn run(
    entra: &Arc<pgaad::Client>,
    mut config: Config,
    tls: MakeRustlsConnect,
    sql: &str,
) -> Result<(), Failure> {
    // The call may wait for Entra, so it is not for a thread of the runtime's.
    let entra = entra.clone();
    let token = tokio::task::spawn_blocking(move || entra.token()).await??;
    let (client, connection) = config.password(token.secret()).connect(tls).await?;
    tokio::spawn(connection);
    for message in client.simple_query(sql).await? {
        if let Row(row) = message {
            let values: Vec<_> = (0..row.len()).map(|n| row.get(n).unwrap_or("")).collect();
            println!("{}", values.join("\t"));
        }
    }
    Ok(())
}
