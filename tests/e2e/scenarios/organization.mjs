// Organizations as the official client makes, shows and changes them, and who belongs to them.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { assertRefused, good } from '../clients.mjs';
import { newPerson } from '../people.mjs';
import { founder, invite, join, newOrganization, place, somebody } from '../organizations.mjs';

export function organization(world) {
  it('somebody makes an organization under a free slug, is in it, and changes it', async () => {
    const owner = await somebody(world);
    const { organization: client } = owner.auth;
    const wanted = { ...newOrganization(), metadata: { plan: 'small', seats: 3 } };
    assert.deepEqual(good(await client.checkSlug({ slug: wanted.slug })), { status: true });
    const made = good(await client.create(wanted));
    assert.deepEqual([made.name, made.slug, made.metadata], [wanted.name, wanted.slug, wanted.metadata]);
    assert.deepEqual(made.members.map(({ userId, role }) => [userId, role]), [[owner.id, 'owner']]);
    assert.deepEqual(await place(owner), [made.id, undefined]);
    assertRefused(await client.checkSlug({ slug: wanted.slug }), 400, 'ORGANIZATION_SLUG_ALREADY_TAKEN');
    assertRefused(await client.create({ ...newOrganization(), slug: wanted.slug }), 400, 'ORGANIZATION_ALREADY_EXISTS');

    const { name, slug } = newOrganization();
    const logo = `https://pictures.example.test/${slug}.png`;
    const changed = good(await client.update({ data: { name, slug, logo } }));
    assert.deepEqual([changed.name, changed.slug, changed.logo], [name, slug, logo]);
    const listed = good(await client.list());
    assert.deepEqual(listed.map((one) => [one.id, one.name]), [[made.id, name]]);
    assert.ok(listed[0].createdAt instanceof Date);
    good(await client.checkSlug({ slug: wanted.slug }));
    // Without teams and roles of their own there is nothing at their routes.
    for (const answer of [await client.listTeams(), await client.listRoles()]) assert.equal(answer.error.status, 404);
  });

  it('set-active says which organization the session is in, and only one\'s own', async () => {
    const { owner, organization: first } = await founder(world);
    const second = good(await owner.auth.organization.create({
      ...newOrganization(), keepCurrentActiveOrganization: true,
    }));
    assert.deepEqual(await place(owner), [first.id, undefined]);
    const setActive = (named) => owner.auth.organization.setActive(named);
    assert.equal(good(await setActive({ organizationSlug: second.slug })).id, second.id);
    assert.deepEqual(await place(owner), [second.id, undefined]);
    assert.equal(good(await setActive({ organizationId: null })), null);
    assert.deepEqual(await place(owner), [null, undefined]);
    assert.equal(good(await owner.auth.organization.getFullOrganization()), null);

    const { organization: foreign } = await founder(world);
    const none = 'USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION';
    assertRefused(await setActive({ organizationId: foreign.id }), 403, none);
    const query = { organizationId: foreign.id };
    assertRefused(await owner.auth.organization.getFullOrganization({ query }), 403, none);
  });

  it('whoever is invited by mail accepts with the id in it, and is in', async () => {
    const { owner, organization: made } = await founder(world);
    const guest = await somebody(world);
    const { id, letter } = await invite(world, owner, guest, { role: 'admin' });
    for (const told of [made.name, owner.email]) assert.ok(letter.text.includes(told));
    const again = await owner.auth.organization.inviteMember({ email: guest.email, role: 'member' });
    assertRefused(again, 400, 'USER_IS_ALREADY_INVITED_TO_THIS_ORGANIZATION');

    // S-63: the id alone is worth nothing to anybody else.
    const stranger = await somebody(world);
    const notTheirs = await stranger.auth.organization.acceptInvitation({ invitationId: id });
    assertRefused(notTheirs, 403, 'YOU_ARE_NOT_THE_RECIPIENT_OF_THE_INVITATION');

    const shown = good(await guest.auth.organization.getInvitation({ query: { id } }));
    assert.deepEqual(
      [shown.organizationName, shown.organizationSlug, shown.inviterEmail, shown.role, shown.status],
      [made.name, made.slug, owner.email, 'admin', 'pending'],
    );
    const waiting = good(await guest.auth.organization.listUserInvitations());
    assert.deepEqual(waiting.map((one) => [one.id, one.organizationName]), [[id, made.name]]);
    const { invitation, member } = good(await guest.auth.organization.acceptInvitation({ invitationId: id }));
    assert.deepEqual([invitation.status, member.userId, member.role], ['accepted', guest.id, 'admin']);
    assert.deepEqual(await place(guest), [made.id, undefined]);
    assertRefused(await guest.auth.organization.acceptInvitation({ invitationId: id }), 400, 'INVITATION_NOT_FOUND');

    const full = good(await owner.auth.organization.getFullOrganization());
    assert.deepEqual(full.members.map(({ user, role }) => [user.email, role]), [
      [owner.email, 'owner'], [guest.email, 'admin'],
    ]);
    assert.deepEqual(full.invitations.map((one) => [one.id, one.status]), [[id, 'accepted']]);
  });

  it('an invitation is refused by its reader, or taken back', async () => {
    const { owner } = await founder(world);
    const guest = await somebody(world);
    const first = await invite(world, owner, guest);
    const rejected = good(await guest.auth.organization.rejectInvitation({ invitationId: first.id }));
    assert.deepEqual([rejected.invitation.status, rejected.member], ['rejected', null]);
    const second = await invite(world, owner, guest);
    assert.equal(good(await owner.auth.organization.cancelInvitation({ invitationId: second.id })).status, 'canceled');
    const late = await guest.auth.organization.acceptInvitation({ invitationId: second.id });
    assertRefused(late, 400, 'INVITATION_NOT_FOUND');
    const listed = good(await owner.auth.organization.listInvitations());
    assert.deepEqual(new Set(listed.map((one) => one.status)), new Set(['rejected', 'canceled']));
    assert.deepEqual(await place(guest), [null, undefined]);
  });

  it('roles say what members may do, and are changed by those who hold them', async () => {
    const { owner, organization: made } = await founder(world);
    const guest = await somebody(world);
    const member = await join(world, owner, guest);
    const may = async ({ auth }, permissions) => good(await auth.organization.hasPermission({ permissions })).success;
    const inviting = { invitation: ['create'] };
    const closing = { organization: ['delete'] };
    assert.deepEqual([await may(guest, inviting), await may(owner, inviting)], [false, true]);
    const uninvited = await guest.auth.organization.inviteMember({ email: newPerson().email, role: 'member' });
    assertRefused(uninvited, 403, 'YOU_ARE_NOT_ALLOWED_TO_INVITE_USERS_TO_THIS_ORGANIZATION');

    const change = { memberId: member.id, role: 'admin' };
    const ownRole = await guest.auth.organization.updateMemberRole(change);
    assertRefused(ownRole, 403, 'YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_MEMBER');
    assert.equal(good(await owner.auth.organization.updateMemberRole(change)).role, 'admin');
    assert.deepEqual([await may(guest, inviting), await may(guest, closing)], [true, false]);
    assert.equal(good(await guest.auth.organization.getActiveMember()).role, 'admin');
    assert.equal(good(await guest.auth.organization.getActiveMemberRole()).role, 'admin');
    const permissions = closing;
    assert.equal(guest.auth.organization.checkRolePermission({ role: 'admin', permissions }), false);

    // S-65: there is always an owner.
    const own = made.members[0].id;
    const without = await owner.auth.organization.updateMemberRole({ memberId: own, role: 'member' });
    assertRefused(without, 400, 'YOU_CANNOT_LEAVE_THE_ORGANIZATION_WITHOUT_AN_OWNER');
    const query = { sortBy: 'createdAt', filterField: 'role', filterValue: 'admin' };
    const { members, total } = good(await owner.auth.organization.listMembers({ query }));
    assert.deepEqual([total, members.map(({ userId }) => userId)], [1, [guest.id]]);
  });

  it('members are removed or leave, and the owner closes the organization', async () => {
    const { owner, organization: made } = await founder(world);
    const [first, second] = [await somebody(world), await somebody(world)];
    await join(world, owner, first);
    const { id: memberId } = await join(world, owner, second);
    const { organization: client } = owner.auth;
    assert.equal(good(await client.removeMember({ memberIdOrEmail: first.email })).member.user.id, first.id);
    assert.equal(good(await first.auth.organization.list()).length, 0);
    const organizationId = made.id;
    const left = good(await second.auth.organization.leave({ organizationId }));
    assert.deepEqual([left.id, left.user.email], [memberId, second.email]);
    assert.deepEqual(await place(second), [null, undefined]);
    assertRefused(await client.leave({ organizationId }), 400, 'YOU_CANNOT_LEAVE_THE_ORGANIZATION_AS_THE_ONLY_OWNER');

    const none = 'USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION';
    assertRefused(await second.auth.organization.delete({ organizationId }), 400, none);
    assert.equal(good(await client.delete({ organizationId })).id, organizationId);
    assert.deepEqual(await place(owner), [null, undefined]);
    assert.deepEqual(good(await client.list()), []);
    const query = { organizationId };
    assertRefused(await client.getFullOrganization({ query }), 400, 'ORGANIZATION_NOT_FOUND');
  });
}
