// Runs each line of SQL that it reads on node-postgres' pool, signed in with Microsoft Entra ID.
//
//     echo 'select current_user' | node pool.js "host=myserver.postgres.database.azure.com user=app-one"
'use strict';

const { createInterface } = require('node:readline');
const { Pool } = require('pg');
const { Client } = require('./pgaad');

async function main(conninfo) {
  const entra = new Client();
  const pool = new Pool(await entra.options(conninfo)); // each new connection gets a fresh token
  pool.on('error', (error) => console.error(error.message)); // the server closed one that nobody was using
  for await (const sql of createInterface({ input: process.stdin })) {
    try {
      const { rows } = await pool.query({ text: sql, rowMode: 'array' });
      for (const row of rows) console.log(row.join('\t'));
    } catch (error) {
      console.error(error.message);
    }
  }
  await pool.end();
}

main(process.argv[2]).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
