// Signs node-postgres in to Azure Database for PostgreSQL with Microsoft Entra ID, by libpgaad.
//
//     const entra = new Client();
//     const pool = new Pool(await entra.options('host=myserver.postgres.database.azure.com user=app-one'));
//
// Needs koffi (npm) and libpgaad.so.0, which PGAAD_LIBRARY may name by its path. Nothing here blocks the event loop:
// calls wait on libuv's threads, and those who ask a client the same thing at the same time share one.
'use strict';

const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const tls = require('node:tls');
const koffi = require('koffi');

const NEEDED = [0, 1, 0]; // the first version that has all that is used here

/** Loads the library. Throws an Error with the code ERR_DLOPEN_FAILED where there is none, or one that is too old. */
function load() {
  const name = process.env.PGAAD_LIBRARY || 'libpgaad.so.0';
  const failed = (why, cause) => Object.assign(
    new Error(`pgaad: ${why}. Install pgaad, or set PGAAD_LIBRARY to the path of libpgaad.so.0.`, { cause }),
    { code: 'ERR_DLOPEN_FAILED' });
  let library;
  try {
    library = koffi.load(name);
  } catch (error) {
    throw failed(`cannot load ${name} (${error.message})`, error);
  }
  let version;
  try {
    version = library.func('pgaad_version_number', 'int', [])();
  } catch (error) {
    throw failed(`${name} is another library`, error);
  }
  if (version < NEEDED[0] * 10000 + NEEDED[1] * 100 + NEEDED[2]) {
    const found = library.func('pgaad_version', 'str', [])();
    throw failed(`${name} is version ${found}, and ${NEEDED.join('.')} is needed`);
  }
  // A string that koffi gives back to pgaad once it is copied.
  const string = koffi.disposable('str', library.func('pgaad_free', 'void', ['void *']));
  const out = (type) => koffi.out(koffi.pointer(type));
  return {
    statusName: library.func('pgaad_status_name', 'str', ['int']),
    create: library.func('pgaad_client_new', 'int', ['str', out('void *'), out(string)]),
    release: library.func('pgaad_client_free', 'void', ['void *']),
    token: library.func('pgaad_client_get_token', 'int', ['void *', 'int', out(string), 'void *', out(string)]),
    user: library.func('pgaad_client_get_user', 'int', ['void *', out(string), out(string)]),
    connstring: library.func('pgaad_client_connstring', 'int', ['void *', 'str', out(string), out(string)]),
  };
}

const lib = load();
const unused = new FinalizationRegistry((handle) => lib.release(handle));

/** What pgaad refuses to do: `code` is the status's name, such as 'PGAAD_DENIED', `status` its number. */
class PgaadError extends Error {
  constructor(status, message) {
    super(message);
    this.name = 'PgaadError';
    this.code = lib.statusName(status);
    this.status = status;
  }
}

/** One identity with its settings and its tokens, for as many pools and connections as you like. */
class Client {
  #handle;
  #asked = new Map();

  /** `settings` is "key=value ..."; what it leaves out comes from the environment. Throws a PgaadError. */
  constructor(settings = '') {
    const [handle, message] = [[null], [null]];
    const status = lib.create(settings, handle, message);
    if (status !== 0) throw new PgaadError(status, message[0]);
    this.#handle = handle[0];
    unused.register(this, this.#handle);
  }

  /** A token, as a string, for up to `timeout` milliseconds (negative: the setting timeout_ms). */
  token(timeout = -1) {
    return this.#ask(`token ${timeout}`, (...outputs) => lib.token.async(this.#handle, timeout, ...outputs), null);
  }

  /** The database user that the identity is, as its token says. */
  user() {
    return this.#ask('user', (...outputs) => lib.user.async(this.#handle, ...outputs));
  }

  /** A connection string for libpq, with a token where Entra is on for this server: a secret. */
  connstring(conninfo = '') {
    return this.#ask(`connstring ${conninfo}`,
      (...outputs) => lib.connstring.async(this.#handle, conninfo, ...outputs));
  }

  /**
   * Options for pg's Client and Pool. `conninfo` is libpq's "key=value ..." or a URI; the PG* variables stand in for
   * what it leaves out. `password` is a function, which gives each new connection a token that is fresh. Host and TLS
   * stay those that were judged fit for it.
   */
  async options(conninfo = '') {
    const judged = await this.connstring(conninfo);
    const options = translate(parse(judged));
    if (options.password !== undefined) {
      // The token in it is known to be one of pgaad's, and is replaced.
      options.password = async () => parse(await this.connstring(judged)).password;
    }
    return options;
  }

  /** Rejects with a PgaadError. Who asks what somebody else is waiting for waits with them, not on one more thread. */
  #ask(question, call, ...unwanted) {
    if (!this.#asked.has(question)) {
      const answer = new Promise((resolve, reject) => {
        const [value, message] = [[null], [null]];
        call(value, ...unwanted, message, (error, status) => {
          if (error) reject(error);
          else if (status !== 0) reject(new PgaadError(status, message[0]));
          else resolve(value[0]);
        });
      });
      this.#asked.set(question, answer.finally(() => this.#asked.delete(question)));
    }
    return this.#asked.get(question);
  }
}

/** The options of a connection string that pgaad wrote. */
function parse(connstring) {
  const pairs = connstring.matchAll(/(\w+)='((?:[^'\\]|\\.)*)'/gs);
  return Object.fromEntries(Array.from(pairs, ([, name, value]) => [name, value.replace(/\\(.)/gs, '$1')]));
}

const seconds = (text) => Number(text) * 1000;

// libpq's names in node-postgres' terms.
const NAMES = {
  user: (value) => ({ user: value }),
  password: (value) => ({ password: value }),
  dbname: (value) => ({ database: value }),
  port: (value) => ({ port: Number(value) }),
  application_name: (value) => ({ application_name: value }),
  fallback_application_name: (value) => ({ fallback_application_name: value }),
  client_encoding: (value) => ({ client_encoding: value }),
  options: (value) => ({ options: value }),
  replication: (value) => ({ replication: value }),
  sslnegotiation: (value) => ({ sslnegotiation: value }),
  connect_timeout: (value) => ({ connectionTimeoutMillis: seconds(value) }),
  keepalives: (value) => ({ keepAlive: value !== '0' }),
  keepalives_idle: (value) => ({ keepAliveInitialDelayMillis: seconds(value) }),
};

// What is dealt with by `translate` and `encryption`, or is about what node-postgres hasn't got.
const OTHERS = ['host', 'hostaddr', 'requirepeer', 'sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'sslpassword',
  'sslcrl', 'sslsni', 'ssl_min_protocol_version', 'ssl_max_protocol_version', 'sslcompression', 'gssencmode',
  'krbsrvname', 'gsslib'];

const refuse = (why) => { throw new PgaadError(2, `pgaad: node-postgres ${why}.`); };

/** node-postgres' options for libpq's. What it can't do is refused rather than left out. */
function translate(given) {
  const options = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === '') continue;
    if (NAMES[name]) Object.assign(options, NAMES[name](value));
    else if (!OTHERS.includes(name)) refuse(`has no option ${name}`);
  }
  const [host, address] = [given.host || given.hostaddr || '', given.hostaddr || given.host];
  if (/,/.test(`${host}${address}${given.port}`)) refuse('knows no lists of hosts: give one');
  if (address) options.host = address;
  if (!host.startsWith('/')) {
    if (given.sslmode) options.ssl = encryption(given, host);
  } else if (given.requirepeer) {
    refuse('cannot check requirepeer: name the socket in allow_plaintext instead');
  } else {
    options.ssl = false;
  }
  return options;
}

/** What `ssl` is to be for libpq's sslmode. Without files of one's own, libpq's in ~/.postgresql count here too. */
function encryption(given, host) {
  const file = (name) => path.join(os.homedir(), '.postgresql', name);
  const roots = given.sslrootcert || file('root.crt');
  let mode = given.sslmode;
  if (mode === 'require' && fs.existsSync(roots)) mode = 'verify-ca';
  if (['disable', 'allow', 'prefer'].includes(mode)) return mode === 'prefer' ? undefined : false;
  if (mode === 'verify-full' && !given.host) refuse('needs a host name that the certificate can be checked for');
  const ssl = {
    sslmode: given.sslmode, // these two for pg.native
    sslrootcert: roots,
    servername: net.isIP(host) ? undefined : host,
    minVersion: given.ssl_min_protocol_version || 'TLSv1.2',
    maxVersion: given.ssl_max_protocol_version || undefined,
    rejectUnauthorized: mode !== 'require', // else NODE_TLS_REJECT_UNAUTHORIZED decides
    // The name that was asked for, whatever address it was looked for at.
    checkServerIdentity: (_, certificate) =>
      mode === 'verify-full' ? tls.checkServerIdentity(host, certificate) : undefined,
  };
  if (mode !== 'require' && roots !== 'system') ssl.ca = fs.readFileSync(roots);
  if (given.sslcrl) ssl.crl = fs.readFileSync(given.sslcrl);
  const [certificate, key] = [given.sslcert || file('postgresql.crt'), given.sslkey || file('postgresql.key')];
  if (given.sslcert || fs.existsSync(certificate)) {
    [ssl.cert, ssl.key] = [fs.readFileSync(certificate), fs.readFileSync(key)];
    ssl.passphrase = given.sslpassword;
  }
  return ssl;
}

module.exports = { Client, PgaadError };
