// A real registration opens an account at the credits service, once, however that service fares.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Browser } from '../browser.mjs';
import { newPerson, register } from '../people.mjs';
import { eventually } from '../wait.mjs';

export function credits(world) {
  const opened = (userId) => eventually('the credits call', () => world.credits.answersFor(userId).includes(200));

  it('credits are opened after a registration', async () => {
    const { id } = await register(world);
    await opened(id);
    assert.deepEqual(world.credits.answersFor(id), [200]);
  });

  it('credits are opened although the credits service fails twice', async () => {
    // Every earlier call has arrived first, so that both refusals meet this registration.
    for (const earlier of world.registered) await opened(earlier);
    world.credits.refuse(2);
    const { id } = await register(world);
    await opened(id);
    assert.deepEqual(world.credits.answersFor(id), [500, 500, 200]);
  });

  it('a refused registration reaches no other service', async () => {
    const person = await register(world);
    const again = await new Browser().post(`${world.service.baseUrl}/api/v1/auth/register`, {
      ...newPerson(), email: person.email,
    });
    assert.equal(again.status, 409);
    const { id } = await register(world);
    await opened(id);

    const done = world.credits.calls.filter((call) => call.status === 200).map((call) => call.userId);
    assert.deepEqual(done.filter((userId) => !world.registered.has(userId)), [], 'credits for nobody');
    assert.equal(new Set(done).size, done.length, 'credits twice');
  });
}
