// The encryption vault as the web client uses it, with Web Crypto: keys, recovery code and zero-knowledge mode.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { watchedFetch } from '../browser.mjs';
import { login, registerAndVerify } from '../people.mjs';

const { subtle } = globalThis.crypto;
const bytesOf = (base64) => new Uint8Array(Buffer.from(base64, 'base64'));
const base64Of = (bytes) => Buffer.from(bytes).toString('base64');
const randomBytes = (length) => globalThis.crypto.getRandomValues(new Uint8Array(length));

/** 32 bytes for people to write down: 16 groups of 4 hexadecimal digits. */
const codeOf = (bytes) => Buffer.from(bytes).toString('hex').toUpperCase().match(/.{4}/g).join('-');
const parseCode = (code) => new Uint8Array(Buffer.from(code.replace(/[\s-]/g, ''), 'hex'));

const aesKey = (bytes) => subtle.importKey('raw', bytes, 'AES-GCM', false, ['encrypt', 'decrypt']);

async function encrypt(key, bytes) {
  const iv = randomBytes(12);
  return { iv, ciphertext: new Uint8Array(await subtle.encrypt({ name: 'AES-GCM', iv }, key, bytes)) };
}

async function decrypt(key, { iv, ciphertext }) {
  return new Uint8Array(await subtle.decrypt({ name: 'AES-GCM', iv }, key, ciphertext));
}

/** The key that a recovery code stands for. */
async function recoveryKey(code) {
  const secret = await subtle.importKey('raw', parseCode(code), 'HKDF', false, ['deriveKey']);
  const info = new TextEncoder().encode('mana-recovery-v1');
  const derivation = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info };
  return subtle.deriveKey(derivation, secret, { name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
}

export function vault(world) {
  const client = (token) => async (method, path, body) => {
    const answer = await watchedFetch(`${world.service.baseUrl}/api/v1/me/encryption-vault${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
      body: body && JSON.stringify(body),
    });
    assert.equal(answer.headers.get('cache-control'), 'no-store');
    return { status: answer.status, body: await answer.json() };
  };

  it('S-78: a browser encrypts, forgets its key, unlocks with the recovery code, and rotates', async () => {
    const person = await registerAndVerify(world);
    const { accessToken } = await login(world, person);
    const call = client(accessToken);
    const ok = async (...request) => {
      const { status, body } = await call(...request);
      assert.equal(status, 200, JSON.stringify(body));
      return body;
    };
    assert.deepEqual(await ok('GET', '/status'), {
      vaultExists: false, hasRecoveryWrap: false, zeroKnowledge: false, recoverySetAt: null,
    });
    assert.deepEqual(await call('GET', '/key'), {
      status: 404, body: { error: 'vault not initialised', code: 'VAULT_NOT_INITIALISED' },
    });

    const { masterKey, ...rest } = await ok('POST', '/init');
    assert.deepEqual(rest, { formatVersion: 1, kekId: 'env-v1' });
    const note = new TextEncoder().encode('Die Maschine webt algebraische Muster.');
    const encrypted = await encrypt(await aesKey(bytesOf(masterKey)), note);

    const code = codeOf(randomBytes(32));
    assert.match(code, /^([0-9A-F]{4}-){15}[0-9A-F]{4}$/);
    const wrapped = await encrypt(await recoveryKey(code), bytesOf(masterKey));
    const wrap = { recoveryWrappedMk: base64Of(wrapped.ciphertext), recoveryIv: base64Of(wrapped.iv) };
    assert.deepEqual(await ok('POST', '/recovery-wrap', wrap), { ok: true });
    assert.equal((await ok('GET', '/key')).masterKey, masterKey);
    assert.deepEqual(await ok('POST', '/zero-knowledge', { enable: true }), { ok: true, zeroKnowledge: true });

    // Another device has nothing but the session and the code.
    const elsewhere = client((await login(world, person)).accessToken);
    for (const [method, path] of [['GET', '/key'], ['POST', '/init']]) {
      assert.deepEqual((await elsewhere(method, path)).body, { requiresRecoveryCode: true, ...wrap, formatVersion: 1 });
    }
    const blob = { iv: bytesOf(wrap.recoveryIv), ciphertext: bytesOf(wrap.recoveryWrappedMk) };
    const typed = code.toLowerCase().replaceAll('-', ' ');
    const unlocked = await decrypt(await recoveryKey(typed), blob);
    assert.deepEqual(await decrypt(await aesKey(unlocked), encrypted), note);
    await assert.rejects(async () => decrypt(await recoveryKey(codeOf(randomBytes(32))), blob));
    assert.equal((await elsewhere('POST', '/rotate')).body.code, 'ZK_ROTATE_FORBIDDEN');
    assert.equal((await elsewhere('DELETE', '/recovery-wrap')).body.code, 'ZK_ACTIVE');

    const off = { enable: false, masterKey: base64Of(unlocked) };
    assert.deepEqual((await elsewhere('POST', '/zero-knowledge', off)).body, { ok: true, zeroKnowledge: false });
    assert.equal((await ok('GET', '/key')).masterKey, masterKey);
    const rotated = await ok('POST', '/rotate');
    assert.notEqual(rotated.masterKey, masterKey);
    await assert.rejects(async () => decrypt(await aesKey(bytesOf(rotated.masterKey)), encrypted));
    assert.deepEqual(await ok('GET', '/status'), {
      vaultExists: true, hasRecoveryWrap: false, zeroKnowledge: false, recoverySetAt: null,
    });
    // S-76: the code of before still opens what the rotation has put aside.
    const restored = await ok('POST', '/recovery-wrap/restore', { password: person.password });
    assert.deepEqual(restored, { ok: true, restored: false, ...wrap, formatVersion: 1 });
    const old = await decrypt(await recoveryKey(code), blob);
    assert.deepEqual(await decrypt(await aesKey(old), encrypted), note);
    // Each change of who can open it was mailed.
    for (const _ of ['set', 'on', 'off', 'ended']) {
      const letter = await world.mail.take(person.email);
      assert.equal(letter.subject, 'Die Verschlüsselung deiner Daten wurde geändert — Mana');
    }
  });
}
