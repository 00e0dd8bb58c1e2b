// A real SMTP server on loopback, with a certificate of its own and a mailbox that tests can read.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import PostalMime from 'postal-mime';
import { SMTPServer } from 'smtp-server';
import { seen } from './seen.mjs';
import { freePort } from './service.mjs';
import { eventually } from './wait.mjs';

const OPENSSL_CONFIG = `
[req]
prompt = no
distinguished_name = subject
x509_extensions = extensions
[subject]
CN = localhost
[extensions]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
`;

/** Makes a self-signed certificate in `directory`; whoever trusts `file` trusts this server and no other. */
async function makeCertificate(directory) {
  const config = join(directory, 'openssl.cnf');
  const keyFile = join(directory, 'smtp.key');
  const file = join(directory, 'smtp.pem');
  await writeFile(config, OPENSSL_CONFIG);
  await promisify(execFile)('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-config', config, '-keyout', keyFile, '-out', file,
  ]);
  return { file, key: await readFile(keyFile), cert: await readFile(file) };
}

export class MailServer {
  /** `tls` is `none`, `starttls` or `tls`; except with `none`, only a client that signed in over TLS may send. */
  static async create(tls) {
    const directory = await mkdtemp(join(tmpdir(), 'mana-smtp-'));
    return new MailServer(tls, directory, await makeCertificate(directory), await freePort());
  }

  constructor(tls, directory, certificate, port) {
    this.tls = tls;
    this.directory = directory;
    this.certificate = certificate;
    this.port = port;
    this.user = tls === 'none' ? undefined : 'mana-auth';
    this.pass = tls === 'none' ? undefined : randomBytes(18).toString('base64url');
    this.letters = [];
  }

  /** What the service has to be told about this server. */
  get settings() {
    const login = this.user ? { SMTP_USER: this.user, SMTP_PASS: this.pass, SSL_CERT_FILE: this.certificate.file } : {};
    return { SMTP_HOST: 'localhost', SMTP_PORT: String(this.port), MANA_AUTH_SMTP_TLS: this.tls, ...login };
  }

  async start() {
    this.server = new SMTPServer({
      key: this.certificate.key,
      cert: this.certificate.cert,
      secure: this.tls === 'tls',
      disabledCommands: this.tls === 'none' ? ['STARTTLS', 'AUTH'] : [],
      authOptional: this.tls === 'none',
      disableReverseLookup: true,
      closeTimeout: 100,
      onAuth: (login, _session, done) => {
        const right = login.username === this.user && login.password === this.pass;
        return done(right ? null : new Error('wrong name or password'), { user: login.username });
      },
      onData: (stream, session, done) => {
        this.receive(stream, session).then(() => done(), done);
      },
    });
    this.server.on('error', () => {}); // A client that hangs up is its own affair.
    this.server.listen(this.port, '127.0.0.1');
    await once(this.server.server, 'listening');
  }

  async stop() {
    await new Promise((resolve) => { this.server.close(resolve); });
  }

  /** Ends the server, if it runs, and forgets its certificate. */
  async dispose() {
    await this.stop();
    await rm(this.directory, { recursive: true, force: true });
  }

  async receive(stream, session) {
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    const letter = await PostalMime.parse(Buffer.concat(chunks));
    for (const link of [...linksIn(letter.html), ...linksIn(letter.text)]) seen.link(link);
    const to = session.envelope.rcptTo.map((recipient) => recipient.address);
    const { subject, html, text } = letter;
    this.letters.push({ to, subject, html, text, secure: session.secure, user: session.user });
  }

  /**
   * Takes the next letter to `address` out of the mailbox, waiting for it if need be: one that a service was sending when
   * it was killed is sent again a minute later.
   */
  async take(address) {
    return eventually('a letter', () => {
      const at = this.find(address);
      return at >= 0 && this.letters.splice(at, 1)[0];
    }, 180);
  }

  /** Whether a letter to `address` lies in the mailbox. */
  has(address) {
    return this.find(address) >= 0;
  }

  find(address) {
    return this.letters.findIndex((letter) => letter.to.includes(address.toLowerCase()));
  }
}

/** Every link in a text, found as a client without an HTML parser finds it. */
function linksIn(text) {
  return text?.match(/https?:\/\/[^\s"'<>]+/g) ?? [];
}

/** The verification link in a text. */
export function verificationLink(text) {
  return linksIn(text).find((link) => new URL(link).pathname === '/api/auth/verify-email');
}

/** The link of a letter whose path begins like this; both parts of the letter have the same one. */
export function linkIn(letter, path) {
  const [plain, rich] = [letter.text, letter.html].map((text) => (
    linksIn(text).find((link) => new URL(link).pathname.startsWith(path))
  ));
  assert.ok(plain, `a link to ${path} in "${letter.subject}"`);
  assert.equal(rich, plain);
  return plain;
}
