// What a client of the vault has to do so that a server that lies is found out (S-78). The server gives it two things,
// and it trusts neither: what the recovery code opens, and what was encrypted with the key.
import { Buffer } from 'node:buffer';

const { subtle } = globalThis.crypto;
const text = (string) => new TextEncoder().encode(string);
const bytesOf = (base64) => new Uint8Array(Buffer.from(base64, 'base64'));
const base64Of = (bytes) => Buffer.from(bytes).toString('base64');
const randomBytes = (length) => globalThis.crypto.getRandomValues(new Uint8Array(length));
const gcm = (iv) => ({ name: 'AES-GCM', iv });

/** The one format that is known; everything about how a key is derived is fixed with it. */
const FORMAT = 1;

/** A recovery code: 32 bytes for people to write down. */
export function newCode() {
  return Buffer.from(randomBytes(32)).toString('hex').toUpperCase().match(/.{4}/g).join('-');
}

async function derive(secret, info, use) {
  const key = await subtle.importKey('raw', secret, 'HKDF', false, ['deriveKey']);
  const derivation = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info: text(info) };
  return subtle.deriveKey(derivation, key, ...use);
}

function recoveryKey(code) {
  const digits = code.replace(/[\s-]/g, '');
  if (!/^[0-9a-f]{64}$/i.test(digits)) throw new Error('no recovery code');
  const use = [{ name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']];
  return derive(new Uint8Array(Buffer.from(digits, 'hex')), 'mana-recovery-v1', use);
}

/** What a key is known by: a client writes it down where the server cannot, beside the recovery code. */
export async function checkValue(masterKey) {
  const use = [{ name: 'HMAC', hash: 'SHA-256', length: 256 }, false, ['sign']];
  const key = await derive(bytesOf(masterKey), 'mana-key-check-v1', use);
  return base64Of(new Uint8Array(await subtle.sign('HMAC', key, text('mana-key-check-v1'))));
}

/** The recovery wrap of a key. */
export async function wrapFor(code, masterKey) {
  const iv = randomBytes(12);
  const wrapped = await subtle.encrypt(gcm(iv), await recoveryKey(code), bytesOf(masterKey));
  return { recoveryWrappedMk: base64Of(new Uint8Array(wrapped)), recoveryIv: base64Of(iv) };
}

/** Unlocks a vault in zero-knowledge mode, or fails: `known` is the check value of its key. */
export async function unlock(answer, code, known) {
  if (answer.requiresRecoveryCode !== true || 'masterKey' in answer) throw new Error('not in zero-knowledge mode');
  if (answer.formatVersion !== FORMAT) throw new Error('another format');
  const { recoveryWrappedMk, recoveryIv } = answer;
  const opened = await subtle.decrypt(gcm(bytesOf(recoveryIv)), await recoveryKey(code), bytesOf(recoveryWrappedMk));
  const masterKey = base64Of(new Uint8Array(opened));
  if ((await checkValue(masterKey)) !== known) throw new Error('another key');
  return masterKey;
}
