// What the plugins of the official client do, with a service as it is by default and a provider beside it.
import { after, before, describe, it } from 'node:test';
import { Provider } from './provider.mjs';
import { admin } from './scenarios/admin.mjs';
import { fields } from './scenarios/fields.mjs';
import { magicLink } from './scenarios/magic_link.mjs';
import { organization } from './scenarios/organization.mjs';
import { social } from './scenarios/social.mjs';
import { twoFactor } from './scenarios/two_factor.mjs';
import { assertNothingLeaked } from './secrecy.mjs';
import { startWorld, stopWorld } from './world.mjs';

describe('plugins of the official client', () => {
  const world = {};
  before(async () => {
    world.provider = await Provider.start();
    const settings = { ...world.provider.settings, JWT_EXTRA_CLAIMS: 'tier' };
    Object.assign(world, await startWorld('none', settings));
  });
  after(async () => {
    if (world.service) await stopWorld(world);
    await world.provider?.stop();
  });

  organization(world);
  twoFactor(world);
  magicLink(world);
  admin(world);
  social(world);
  fields(world);

  it('S-26, S-37: nothing that was secret on the wire is in the database or the logs', async () => {
    await assertNothingLeaked(world.service, [...world.registered][0]);
  });
});
