// Teams of organizations, where they are on.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { assertRefused, good } from '../clients.mjs';
import { founder, invite, join, place, somebody } from '../organizations.mjs';

const OPTIONS = { teams: { enabled: true } };

export function teams(world) {
  it('an organization begins with a team of its name, and gets others', async () => {
    const { owner, organization } = await founder(world, OPTIONS);
    const { organization: client } = owner.auth;
    const [first] = good(await client.listTeams());
    assert.equal(first.name, organization.name);
    assert.deepEqual(await place(owner), [organization.id, first.id]);

    const made = good(await client.createTeam({ name: `Gruppe ${organization.slug}` }));
    const name = `Mannschaft ${organization.slug}`;
    assert.equal(good(await client.updateTeam({ teamId: made.id, data: { name } })).name, name);
    const { teams: all } = good(await client.getFullOrganization());
    assert.deepEqual(new Set(all.map((team) => team.name)), new Set([first.name, name]));
    assertRefused(await client.removeTeam({ teamId: first.id }), 403, 'YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_TEAM');
    assert.deepEqual(good(await client.removeTeam({ teamId: made.id })), { message: 'Team removed successfully.' });
    assert.deepEqual(good(await client.listTeams()).map((team) => team.id), [first.id]);
  });

  it('whoever is invited into a team is in it, and the session as well', async () => {
    const { owner, organization } = await founder(world, OPTIONS);
    const guest = await somebody(world, OPTIONS);
    const { id: teamId } = good(await owner.auth.organization.createTeam({ name: `Gruppe ${organization.slug}` }));
    const { id: invitationId } = await invite(world, owner, guest, { teamId });
    const { invitation } = good(await guest.auth.organization.acceptInvitation({ invitationId }));
    assert.equal(invitation.teamId, teamId);
    assert.deepEqual(await place(guest), [organization.id, teamId]);
    assert.deepEqual(good(await guest.auth.organization.listUserTeams()).map((team) => team.id), [teamId]);
    const members = good(await guest.auth.organization.listTeamMembers({ query: { teamId } }));
    assert.deepEqual(members.map((member) => member.userId), [guest.id]);
  });

  it('members of the organization come into a team and go from it', async () => {
    const { owner, organization } = await founder(world, OPTIONS);
    const guest = await somebody(world, OPTIONS);
    await join(world, owner, guest);
    const { organization: client } = owner.auth;
    const { id: teamId } = good(await client.createTeam({ name: `Gruppe ${organization.slug}` }));
    const { organization: theirs } = guest.auth;
    assertRefused(await theirs.setActiveTeam({ teamId }), 403, 'USER_IS_NOT_A_MEMBER_OF_THE_TEAM');
    const added = good(await client.addTeamMember({ teamId, userId: guest.id }));
    assert.deepEqual([added.teamId, added.userId], [teamId, guest.id]);
    assert.equal(good(await theirs.setActiveTeam({ teamId })).id, teamId);
    assert.deepEqual(await place(guest), [organization.id, teamId]);

    const removal = { teamId, userId: guest.id };
    assertRefused(await theirs.removeTeamMember(removal), 403, 'YOU_ARE_NOT_ALLOWED_TO_REMOVE_A_TEAM_MEMBER');
    assert.deepEqual(good(await client.removeTeamMember(removal)), { message: 'Team member removed successfully.' });
    assertRefused(await theirs.listTeamMembers({ query: { teamId } }), 400, 'USER_IS_NOT_A_MEMBER_OF_THE_TEAM');
    assert.equal(good(await theirs.setActiveTeam({ teamId: null })), null);
  });
}
