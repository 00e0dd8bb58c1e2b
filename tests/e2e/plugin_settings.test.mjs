// Plugins of the official client that a service serves only if it is set to.
import { after, before, describe, it } from 'node:test';
import { customRoles } from './scenarios/custom_roles.mjs';
import { multiSession } from './scenarios/multi_session.mjs';
import { teams } from './scenarios/teams.mjs';
import { assertNothingLeaked } from './secrecy.mjs';
import { startWorld, stopWorld } from './world.mjs';

for (const [setting, scenario] of [
  ['MANA_AUTH_TEAMS', teams],
  ['MANA_AUTH_DYNAMIC_ROLES', customRoles],
  ['MANA_AUTH_MULTI_SESSION', multiSession],
]) {
  describe(`with ${setting}`, () => {
    const world = {};
    before(async () => { Object.assign(world, await startWorld('none', { [setting]: 'true' })); });
    after(async () => { if (world.service) await stopWorld(world); });

    scenario(world);

    it('S-26, S-37: nothing that was secret on the wire is in the database or the logs', async () => {
      await assertNothingLeaked(world.service, [...world.registered][0]);
    });
  });
}
