// Another provider that people sign in by: OpenID Connect with PKCE, as far as a service needs it, over real HTTP.
import assert from 'node:assert/strict';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { seen } from './seen.mjs';

const CLIENT_ID = 'mana-e2e';
const SCOPES = 'openid email profile';

function secret() {
  const text = randomBytes(24).toString('base64url');
  seen.secret(text);
  return text;
}

export class Provider {
  /** Its name in the service's file of settings. */
  id = 'workshop';
  clientSecret = secret();
  /** How long its access tokens last, in seconds. */
  lasts = 3600;
  codes = new Map();
  accessTokens = new Map();
  refreshTokens = new Map();

  static async start() {
    const provider = new Provider();
    ({ publicKey: provider.publicKey, privateKey: provider.privateKey } = await generateKeyPair('RS256'));
    provider.server = createServer((request, response) => {
      provider.answer(request).then(
        (body) => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body)),
        () => response.writeHead(400, { 'content-type': 'application/json' }).end('{"error":"invalid_grant"}'),
      );
    }).listen(0, '127.0.0.1');
    await once(provider.server, 'listening');
    provider.url = `http://127.0.0.1:${provider.server.address().port}`;
    await provider.writeSettings();
    return provider;
  }

  async stop() {
    this.server.close();
    this.server.closeAllConnections();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Writes the file of settings that names this provider. */
  async writeSettings() {
    this.directory = await mkdtemp(join(tmpdir(), 'mana-provider-'));
    const secretFile = join(this.directory, 'secret');
    await writeFile(secretFile, this.clientSecret);
    const file = join(this.directory, 'service.toml');
    await writeFile(file, `
[social.${this.id}]
client_id = "${CLIENT_ID}"
client_secret_file = "${secretFile}"
issuer = "${this.url}"
authorize_url = "${this.url}/authorize"
token_url = "${this.url}/token"
jwks_url = "${this.url}/jwks"
userinfo_url = "${this.url}/userinfo"
`);
    /** What the service has to be told. */
    this.settings = { MANA_AUTH_CONFIG: file };
  }

  /** `person` signs in there and agrees to what `url` asks for; gives the address that they are sent back to. */
  agree(url, person) {
    const { origin, pathname, searchParams: asked } = new URL(url);
    assert.equal(origin + pathname, `${this.url}/authorize`);
    assert.deepEqual(['response_type', 'client_id', 'scope', 'code_challenge_method'].map((name) => asked.get(name)), [
      'code', CLIENT_ID, SCOPES, 'S256',
    ]);
    const code = secret();
    this.codes.set(code, { person, nonce: asked.get('nonce'), challenge: asked.get('code_challenge') });
    return this.sendBack(asked, { code });
  }

  /** Somebody does not agree. */
  decline(url) {
    return this.sendBack(new URL(url).searchParams, { error: 'access_denied' });
  }

  sendBack(asked, fields) {
    const back = new URL(asked.get('redirect_uri'));
    back.search = new URLSearchParams({ ...fields, state: asked.get('state'), iss: this.url });
    return back.href;
  }

  /** An ID token about `person`. */
  async idToken(person, nonce, { key = this.privateKey } = {}) {
    const token = await new SignJWT({ ...person, ...nonce && { nonce } })
      .setProtectedHeader({ alg: 'RS256', kid: 'k1' })
      .setIssuer(this.url).setAudience(CLIENT_ID).setIssuedAt().setExpirationTime('5m').sign(key);
    seen.secret(token);
    return token;
  }

  async answer(request) {
    let text = '';
    for await (const chunk of request) text += chunk;
    switch (`${request.method} ${request.url}`) {
      case 'GET /jwks': return { keys: [{ ...await exportJWK(this.publicKey), kid: 'k1', alg: 'RS256', use: 'sig' }] };
      case 'GET /userinfo': return this.userinfo(request.headers.authorization);
      case 'POST /token': return this.token(new URLSearchParams(text));
      default: throw new Error('no such page');
    }
  }

  userinfo(authorization) {
    return this.known(this.accessTokens, authorization?.replace('Bearer ', '')).person;
  }

  known(grants, token) {
    const grant = grants.get(token);
    if (!grant) throw new Error('unknown');
    return grant;
  }

  async token(form) {
    assert.deepEqual([form.get('client_id'), form.get('client_secret')], [CLIENT_ID, this.clientSecret]);
    const byCode = form.get('grant_type') === 'authorization_code';
    const [grants, shown] = byCode ? [this.codes, form.get('code')] : [this.refreshTokens, form.get('refresh_token')];
    const { person, nonce, challenge } = this.known(grants, shown);
    // Codes and refresh tokens are good once.
    grants.delete(shown);
    if (byCode) {
      const verifier = createHash('sha256').update(form.get('code_verifier')).digest('base64url');
      if (verifier !== challenge) throw new Error('another sign-in');
    }
    const [accessToken, refreshToken] = [secret(), secret()];
    this.accessTokens.set(accessToken, { person });
    this.refreshTokens.set(refreshToken, { person });
    return {
      access_token: accessToken, refresh_token: refreshToken, token_type: 'Bearer', scope: SCOPES,
      expires_in: this.lasts, ...byCode && { id_token: await this.idToken(person, nonce) },
    };
  }
}

/** Somebody with an account at a provider, which vouches for their address. */
export function knownAs({ email, name }) {
  const picture = `https://pictures.example.test/${randomUUID()}.png`;
  return { sub: randomUUID(), email, email_verified: true, name, picture };
}
