// Commands for tests/suite/scripts.rs, one a line, words separated by tabs; the answer ends with a line of a dot.
'use strict';

const fs = require('node:fs');
const { inspect } = require('node:util');
const { createInterface } = require('node:readline');

const clean = (text) => String(text).replace(/\s+/g, ' ');
const say = (command, status, rest) => process.stdout.write(clean(`${command} status=${status} ${rest}`) + '\n');

let pgaad;
try {
  pgaad = require('../../examples/node/pgaad.js');
} catch (error) {
  say('load', error.code, `errmsg=${error.message}`);
  process.exit();
}
const { Pool } = require('pg');

let client;
let failure;
let hanging = [];

const commands = {
  new: (settings) => { client = new pgaad.Client(settings); return 'made'; },
  token: (timeout = '-1') => client.token(Number(timeout)),
  user: () => client.user(),
  connstring: (conninfo) => client.connstring(conninfo),
  // All that a program might log.
  inspect: async (conninfo) => {
    const seen = [client, failure];
    try {
      const options = await client.options(conninfo);
      const pool = new Pool(options);
      seen.push(options, pool);
      await pool.query('select 1').finally(() => pool.end());
    } catch (error) {
      seen.push(error, error.stack);
    }
    return seen.map((value) => `${inspect(value, { depth: 9, showHidden: true })} ${JSON.stringify(value)}`).join(' ');
  },
  connect: async (conninfo) => {
    const pool = new Pool(await client.options(conninfo));
    try {
      return (await pool.query('select current_user as who')).rows[0].who;
    } finally {
      await pool.end();
    }
  },
  // Two connections, with another environment in between.
  steady: async () => {
    const pool = new Pool(await client.options());
    const who = () => pool.query('select current_user as who').then(({ rows }) => rows[0].who);
    try {
      const first = await who();
      Object.assign(process.env, { PGHOST: 'stranger.example', PGPORT: '1', PGUSER: 'nobody', PGSSLMODE: 'disable' });
      const others = await Promise.all([who(), who()]);
      return [first, ...others, pool.totalCount];
    } finally {
      await pool.end();
    }
  },
  // Many wait for a token; how many of them are done when timers, files and names have had their turns?
  hang: async (many) => {
    let done = 0;
    hanging = Array.from({ length: Number(many) }, (_, i) => (i % 2 ? client.token() : client.connstring()));
    hanging.forEach((answer) => answer.then(() => { done++; }));
    for (let tick = 0; tick < 20; tick++) await new Promise((resolve) => setTimeout(resolve, 1));
    await fs.promises.readFile(__filename);
    await require('node:dns').promises.lookup('localhost');
    return done;
  },
  join: async () => new Set(await Promise.all(hanging)).size,
};

async function main() {
  for await (const line of createInterface({ input: process.stdin })) {
    const [command, ...words] = line.split('\t');
    try {
      say(command, 'PGAAD_OK', `value=${await commands[command](...words)}`);
    } catch (error) {
      failure = error;
      say(command, error.code, `class=${error.constructor.name} errmsg=${error.message}`);
    }
    process.stdout.write('.\n');
  }
}

main();
