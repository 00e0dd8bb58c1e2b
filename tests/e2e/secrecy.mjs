// What was said on the wire stays there: the searches through the database and the logs.
import assert from 'node:assert/strict';
import { leaks, seen } from './seen.mjs';

/** S-26, S-37, I-5, I-6: no secret in the database or the logs, nothing personal in the events or the logs. */
export async function assertNothingLeaked(service, userId) {
  const dump = await service.dump();
  const events = (await service.query('select e::text as event from events e')).map((row) => row.event).join('\n');
  const logs = await service.logs();

  // The searches look at the right things: what may stand there is found.
  assert.ok(dump.includes(userId), 'the dump holds the user');
  assert.ok(events.includes(userId), 'the events name the user');
  assert.ok(logs.length > 0, 'something was logged');
  assert.ok(seen.secrets.size > 5 && seen.personal.size > 2, 'the wire was watched');

  assert.deepEqual(leaks(dump, seen.secrets), [], 'secrets in the database');
  assert.deepEqual(leaks(logs, seen.secrets), [], 'secrets in the logs');
  assert.deepEqual(leaks(events, seen.personal), [], 'personal data in the events');
  assert.deepEqual(leaks(logs, seen.personal), [], 'personal data in the logs');
  assert.doesNotMatch(events, /\$argon2/, 'a password hash is no fact');
}

/** S-89: an erased person is in no table any more, but for the id that their events go by. */
export async function assertErased(service, { id, email, name }, ...browsers) {
  const dump = await service.dump();
  assert.ok(dump.includes(id), 'the log knows that there was somebody');
  const personal = [email, name, ...browsers.map((browser) => browser.userAgent)];
  assert.deepEqual(leaks(dump, personal), [], 'personal data of an erased person');
}
