// S-78: a server that has everything the service has, and lies. The answers of the true service are altered in every
// way that was found in end-to-end encrypted clouds; a client that does what it has to finds each of them out.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { watchedFetch } from '../browser.mjs';
import { login, registerAndVerify } from '../people.mjs';
import { checkValue, newCode, unlock, wrapFor } from '../vault_client.mjs';

export function lyingServer(world) {
  const vaultOf = async (person) => {
    const { accessToken } = await login(world, person);
    return async (method, path, body) => {
      const answer = await watchedFetch(`${world.service.baseUrl}/api/v1/me/encryption-vault${path}`, {
        method,
        headers: { authorization: `Bearer ${accessToken}`, ...(body && { 'content-type': 'application/json' }) },
        body: body && JSON.stringify(body),
      });
      assert.equal(answer.status, 200);
      return answer.json();
    };
  };

  /** A vault in zero-knowledge mode; what its owner has written down, and what the server gives. */
  const locked = async () => {
    const call = await vaultOf(await registerAndVerify(world));
    const code = newCode();
    const { masterKey: before } = await call('POST', '/init');
    const older = await wrapFor(code, before);
    await call('POST', '/recovery-wrap', older);
    const { masterKey } = await call('POST', '/rotate');
    const known = await checkValue(masterKey);
    await call('POST', '/recovery-wrap', { ...(await wrapFor(code, masterKey)), keyCheck: known });
    await call('POST', '/zero-knowledge', { enable: true });
    return { code, masterKey, older, known, given: await call('GET', '/key') };
  };

  it('S-78: a client finds out whatever a server makes of what the recovery code opens', async () => {
    const [ada, eve] = [await locked(), await locked()];
    assert.equal(await unlock(ada.given, ada.code, ada.known), ada.masterKey);
    const flipped = (text, at) => {
      const bytes = Buffer.from(text, 'base64');
      bytes[at] ^= 1;
      return bytes.toString('base64');
    };
    const theirs = newCode();
    const lies = {
      'the wrap of somebody else': eve.given,
      'half of it': { ...ada.given, recoveryIv: eve.given.recoveryIv },
      'an older wrap, for the same code': { ...ada.given, ...ada.older },
      'a key of the server, for a code of the server': { ...ada.given, ...(await wrapFor(theirs, eve.masterKey)) },
      'a format of before': { ...ada.given, formatVersion: 0 },
      'a format of the future': { ...ada.given, formatVersion: 2 },
      'no format': { ...ada.given, formatVersion: undefined },
      'the format as a text': { ...ada.given, formatVersion: '1' },
      'a key of the server instead': { masterKey: eve.masterKey, formatVersion: 1, kekId: 'env-v1' },
      'a key of the server beside it': { ...ada.given, masterKey: eve.masterKey },
      'a cut-off wrap': { ...ada.given, recoveryWrappedMk: ada.given.recoveryWrappedMk.slice(0, 40) },
    };
    for (let at = 0; at < 48; at += 1) {
      lies[`byte ${at}`] = { ...ada.given, recoveryWrappedMk: flipped(ada.given.recoveryWrappedMk, at) };
    }
    for (const [what, lie] of Object.entries(lies)) {
      await assert.rejects(unlock(lie, ada.code, ada.known), what);
    }
    // What says how a key is derived is not the server's to say.
    const cheaper = { ...ada.given, kdf: 'none', iterations: 1, salt: '', info: 'x' };
    assert.equal(await unlock(cheaper, ada.code, ada.known), ada.masterKey);
    // The server gives nothing out that the check value is not proof against: it does not know the code.
    assert.deepEqual(Object.keys(ada.given).sort(), [
      'formatVersion', 'recoveryIv', 'recoveryWrappedMk', 'requiresRecoveryCode',
    ]);
  });
}
