// The service under test: one binary, one data directory, and a private PostgreSQL cluster that it looks after.
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import pg from 'pg';
import { seen } from './seen.mjs';
import { eventually } from './wait.mjs';

const run = promisify(execFile);
const BINARY = process.env.MANA_AUTH_BIN || fileURLToPath(new URL('../../target/debug/mana-auth', import.meta.url));

/** The web application whose pages the users of these tests sit at. */
export const APP_ORIGIN = 'http://app.example.test:5173';

/** The key that services show each other. */
export const SERVICE_KEY = randomBytes(24).toString('hex');

/** A loopback port that was free a moment ago. */
export async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

export class Service {
  /** Makes an empty data directory and settings for it; `settings` are environment variables that are added. */
  static async create(settings) {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is missing: run cargo build first, or set MANA_AUTH_BIN`);
    const directory = await mkdtemp(join(tmpdir(), 'mana-e2e-'));
    // PostgreSQL refuses to run as root, so as root the cluster runs as somebody else, who must be able to come in.
    await chmod(directory, 0o755);
    return new Service(directory, settings.PORT ?? await freePort(), settings);
  }

  constructor(directory, port, settings) {
    this.directory = directory;
    this.dataDir = join(directory, 'data');
    this.baseUrl = `http://127.0.0.1:${port}`;
    /** Everything that was written to stdout and stderr, by the service and by its command line. */
    this.output = '';
    const { PATH, HOME } = process.env;
    const secrets = {
      BETTER_AUTH_SECRET: randomBytes(32).toString('hex'),
      MANA_AUTH_KEK: randomBytes(32).toString('base64'),
      MANA_SERVICE_KEY: SERVICE_KEY,
    };
    this.env = {
      PATH, HOME, ...secrets,
      PORT: String(port),
      BASE_URL: this.baseUrl,
      MANA_AUTH_DATA_DIR: this.dataDir,
      MANA_AUTH_LOG_FORMAT: 'json',
      MANA_AUTH_RATE_LIMIT: 'off',
      CORS_ORIGINS: `${APP_ORIGIN}, http://other.example.test`,
      TRUSTED_ORIGINS: APP_ORIGIN,
      ...settings,
    };
    for (const secret of [...Object.values(secrets), settings.SMTP_PASS]) if (secret) seen.secret(secret);
  }

  /** Starts the process and waits until it is ready; answers with the milliseconds that took. */
  async start() {
    const started = performance.now();
    this.process = spawn(BINARY, ['serve'], { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => { this.output += text; });
    }
    this.ended = once(this.process, 'exit').then(([code, signal]) => ({ code, signal }));
    await eventually('the service to be ready', async () => {
      if (this.hasEnded()) throw new Error(`the service ended at start:\n${this.output.slice(-4000)}`);
      return this.isReady();
    });
    return performance.now() - started;
  }

  hasEnded() {
    return this.process.exitCode !== null || this.process.signalCode !== null;
  }

  async isReady() {
    return fetch(`${this.baseUrl}/health/ready`).then((answer) => answer.status === 200, () => false);
  }

  /** Sends `signal` and answers with how the process ended. */
  async stop(signal = 'SIGTERM') {
    this.process.kill(signal);
    return this.ended;
  }

  /** Runs the command line with the environment of the service. */
  async command(...args) {
    const { stdout, stderr } = await run(BINARY, args, { env: this.env });
    this.output += stdout + stderr;
    return stdout;
  }

  /** Where the private cluster listens, and who may look at everything there. */
  async database() {
    const host = join(this.dataDir, 'postgres');
    const socket = (await readdir(host)).find((name) => /^\.s\.PGSQL\.\d+$/.test(name));
    return { host, port: Number(socket.split('.').at(-1)), user: 'postgres', database: 'mana_auth' };
  }

  /** The rows of one question to the database. */
  async query(sql) {
    const client = new pg.Client(await this.database());
    await client.connect();
    try {
      return (await client.query(sql)).rows;
    } finally {
      await client.end();
    }
  }

  /** A full dump of the database as text. */
  async dump() {
    const { host, port, user, database } = await this.database();
    const { stdout } = await run('pg_dump', ['-h', host, '-p', String(port), '-U', user, database], { maxBuffer: 2 ** 30 });
    return stdout;
  }

  /** The service's output and every log file that PostgreSQL has written for it. */
  async logs() {
    const texts = [this.output];
    for (const entry of await readdir(this.dataDir, { recursive: true, withFileTypes: true })) {
      if (entry.isFile() && entry.name.endsWith('.log')) {
        texts.push(await readFile(join(entry.parentPath ?? entry.path, entry.name), 'utf8'));
      }
    }
    return texts.join('\n');
  }

  /** Ends what still runs, also after a failed test, and removes the directory. */
  async dispose() {
    if (this.process && !this.hasEnded()) await this.stop();
    await this.endOrphanedCluster();
    await rm(this.directory, { recursive: true, force: true });
  }

  async endOrphanedCluster() {
    const entries = await readdir(this.dataDir, { recursive: true, withFileTypes: true }).catch(() => []);
    const lock = entries.find((entry) => entry.name === 'postmaster.pid');
    if (!lock) return;
    const file = join(lock.parentPath ?? lock.path, lock.name);
    const pid = Number((await readFile(file, 'utf8')).split('\n')[0]);
    try {
      process.kill(pid, 'SIGINT');
    } catch {
      return; // The lock file is all that was left.
    }
    await eventually('the cluster to stop', () => !existsSync(file));
  }
}
