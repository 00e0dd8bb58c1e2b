// Remembers each secret and each piece of personal data that these tests see on the wire, and finds them elsewhere.
import { keyIn } from './totp.mjs';

const SECRET_FIELDS = ['token', 'accessToken', 'refreshToken', 'idToken', 'password', 'newPassword', 'currentPassword',
  'masterKey'];
const PERSONAL_FIELDS = ['email', 'newEmail', 'oldEmail', 'name', 'image', 'logo', 'banReason'];

class Seen {
  constructor() {
    this.secrets = new Set();
    this.personal = new Set();
  }

  /** A token, password or key. Of signed values and JWTs the parts count too: a signature makes a token usable. */
  secret(text) {
    const decoded = decodeURIComponent(text); // Cookies are percent-encoded; nothing else here has a percent sign.
    const parts = decoded.split('.');
    const signedParts = parts.length === 3 ? parts.slice(1) : parts;
    for (const one of [text, decoded, ...signedParts]) {
      // What is short says nothing by itself: the `true` of a signed flag, a header.
      if (one.length >= 12) this.secrets.add(one);
    }
  }

  /** Something about a person or what is theirs, as typed and as normalised. */
  person(text) {
    this.personal.add(text).add(text.toLowerCase());
  }

  /** Everything worth remembering in a JSON text. */
  json(text) {
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      return;
    }
    this.walk(value);
  }

  walk(value) {
    if (value === null || typeof value !== 'object') return;
    for (const [key, inner] of Object.entries(value)) {
      // Admins see a session's id in the place of its token: that is no secret.
      if (key === 'token' && inner === value.id) continue;
      if (key === 'backupCodes') for (const code of inner) this.secrets.add(code);
      else if (key === 'totpURI') this.app(inner);
      else if (typeof inner !== 'string') this.walk(inner);
      else if (SECRET_FIELDS.includes(key)) this.secret(inner);
      else if (PERSONAL_FIELDS.includes(key) && inner) this.person(inner);
    }
  }

  /** The key that an authenticator app is given. */
  app(uri) {
    this.secret(new URL(uri).searchParams.get('secret'));
    this.secret(keyIn(uri).toString());
  }

  /** The token that a link carries, in its query or in its path. */
  link(text) {
    const url = new URL(text, 'http://nowhere.test');
    const token = url.searchParams.get('token') ?? url.pathname.match(/\/reset-password\/([^/]+)$/)?.[1];
    if (token) this.secret(token);
  }

  async request(request) {
    this.link(request.url);
    this.json(await request.clone().text());
  }

  async response(response) {
    for (const cookie of response.headers.getSetCookie()) {
      this.secret(cookie.slice(cookie.indexOf('=') + 1).split(';')[0]);
    }
    for (const name of ['set-auth-token', 'set-auth-jwt']) {
      const token = response.headers.get(name);
      if (token) this.secret(token);
    }
    const location = response.headers.get('location');
    if (location) this.link(location);
    this.json(await response.clone().text());
  }
}

export const seen = new Seen();

/** Those of `needles` that occur in `text`: plain, as the hex of a `bytea` dump, or in base64. Never the whole needle. */
export function leaks(text, needles) {
  return [...needles]
    .filter((needle) => {
      const bytes = Buffer.from(needle);
      const base64 = bytes.toString('base64').replaceAll('=', '');
      return [needle, bytes.toString('hex'), base64, bytes.toString('base64url')].some((form) => text.includes(form));
    })
    .map((needle) => `${needle.slice(0, 6)}… (${needle.length} characters)`);
}
