// An authenticator app: TOTP of RFC 6238 with HMAC-SHA-1, six digits and steps of 30 seconds.
import { createHmac } from 'node:crypto';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const STEP_MS = 30_000;

/** The key in an `otpauth:` address. */
export function keyIn(uri) {
  const letters = [...new URL(uri).searchParams.get('secret')];
  const bits = letters.map((letter) => ALPHABET.indexOf(letter).toString(2).padStart(5, '0')).join('');
  return Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
}

/** The code that the app shows `ahead` steps from now. The service takes each step once, and one step ahead of time. */
export function totp(uri, ahead = 0) {
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / STEP_MS) + ahead));
  const mac = createHmac('sha1', keyIn(uri)).update(step).digest();
  const number = mac.readUInt32BE(mac.at(-1) & 15) & 0x7fffffff;
  return digits(number);
}

/** A code that is another one. */
export function another(code) {
  return digits(Number(code) + 1);
}

function digits(number) {
  return String(number % 1_000_000).padStart(6, '0');
}
