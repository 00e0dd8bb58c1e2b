// One service with real parts around it, and everything that is done to it, in order.
// Run with `npm ci && npm test` in this folder; MANA_AUTH_BIN names the binary if it is not the debug build.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { client } from './scenarios/client.mjs';
import { clientAccount } from './scenarios/client_account.mjs';
import { cors } from './scenarios/cors.mjs';
import { credits } from './scenarios/credits.mjs';
import { keyRotation } from './scenarios/key_rotation.mjs';
import { lyingServer } from './scenarios/lying_server.mjs';
import { mailOutage } from './scenarios/mail_outage.mjs';
import { ownRoutes } from './scenarios/own_routes.mjs';
import { ownRoutesAccount } from './scenarios/own_routes_account.mjs';
import { stopping } from './scenarios/stopping.mjs';
import { vault } from './scenarios/vault.mjs';
import { assertNothingLeaked } from './secrecy.mjs';
import { eventually } from './wait.mjs';
import { startWorld, stopWorld } from './world.mjs';

describe('the service', () => {
  const world = {};
  before(async () => { Object.assign(world, await startWorld('starttls')); });
  after(async () => { if (world.service) await stopWorld(world); });

  client(world);
  clientAccount(world);
  ownRoutes(world);
  ownRoutesAccount(world);
  vault(world);
  lyingServer(world);
  credits(world);
  mailOutage(world);
  cors(world);
  keyRotation(world);
  stopping(world);

  it('every account has its credits in the end, also those made around a crash', async () => {
    for (const userId of world.registered) {
      await eventually('the credits call', () => world.credits.answersFor(userId).includes(200));
    }
    const foreign = world.credits.calls.filter((call) => !world.registered.has(call.userId));
    assert.deepEqual(foreign, []);
  });

  it('S-26, S-37: nothing that was secret on the wire is in the database or the logs', async () => {
    await assertNothingLeaked(world.service, [...world.registered][0]);
  });
});
