// Organizations of these tests, and who comes into them.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { organizationClient } from 'better-auth/client/plugins';
import { good, signIn } from './clients.mjs';
import { registerAndVerify } from './people.mjs';
import { linkIn } from './smtp.mjs';

/** An organization that nobody has made yet. */
export function newOrganization() {
  const mark = () => randomBytes(6).toString('hex');
  return { name: `Verein ${mark()}`, slug: `slug-${mark()}` };
}

/** Somebody who is signed in, with the client's part for organizations. */
export async function somebody(world, options) {
  const person = await registerAndVerify(world);
  return { ...person, ...await signIn(world, person, organizationClient(options)) };
}

/** Somebody who has made an organization, and the organization. */
export async function founder(world, options) {
  const owner = await somebody(world, options);
  const organization = good(await owner.auth.organization.create(newOrganization()));
  return { owner, organization };
}

/** Invites `guest` and gives the id of the invitation from the mail. */
export async function invite(world, host, guest, more = {}) {
  const invitation = good(await host.auth.organization.inviteMember({ email: guest.email, role: 'member', ...more }));
  const letter = await world.mail.take(guest.email);
  assert.equal(letter.subject, 'Einladung — Mana');
  const id = new URL(linkIn(letter, '/accept-invitation')).searchParams.get('id');
  assert.equal(id, invitation.id);
  return { id, letter };
}

/** Lets `guest` into the organization that `host` is in; gives their membership. */
export async function join(world, host, guest, more) {
  const { id } = await invite(world, host, guest, more);
  return good(await guest.auth.organization.acceptInvitation({ invitationId: id })).member;
}

/** Which organization and team the session of somebody is in. */
export async function place({ auth }) {
  const { session } = good(await auth.getSession());
  return [session.activeOrganizationId, session.activeTeamId];
}
