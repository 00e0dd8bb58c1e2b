// Roles that organizations define, where that is on.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { assertRefused, good } from '../clients.mjs';
import { founder, join, somebody } from '../organizations.mjs';

const OPTIONS = { dynamicAccessControl: { enabled: true } };

export function customRoles(world) {
  it('an organization defines a role, gives it to a member, and changes what it allows', async () => {
    const { owner, organization } = await founder(world, OPTIONS);
    const guest = await somebody(world, OPTIONS);
    const { organization: client } = owner.auth;
    const made = good(await client.createRole({ role: 'Editor', permission: { project: ['create', 'update'] } }));
    assert.deepEqual([made.success, made.roleData.role], [true, 'editor']);
    const member = await join(world, owner, guest, { role: 'editor' });
    assert.equal(member.role, 'editor');
    const may = async (action) => (
      good(await guest.auth.organization.hasPermission({ permissions: { project: [action] } })).success
    );
    assert.deepEqual([await may('update'), await may('delete')], [true, false]);
    const permission = { project: ['delete'] };
    good(await client.updateRole({ roleName: 'editor', data: { permission, roleName: 'Cleaner' } }));
    assert.deepEqual([await may('update'), await may('delete')], [false, true]);

    const { id: roleId } = made.roleData;
    const read = good(await client.getRole({ query: { roleId } }));
    assert.deepEqual([read.role, read.permission, read.organizationId], ['cleaner', permission, organization.id]);
    assert.deepEqual(good(await client.listRoles()).map((role) => role.id), [roleId]);
    // A role that is renamed keeps its members.
    assertRefused(await client.deleteRole({ roleName: 'cleaner' }), 400, 'ROLE_IS_ASSIGNED_TO_MEMBERS');
    good(await client.updateMemberRole({ memberId: member.id, role: 'member' }));
    assert.deepEqual(good(await client.deleteRole({ roleId })), { success: true });
    assert.deepEqual(good(await client.listRoles()), []);
  });

  it('nobody defines what they may not do themselves', async () => {
    const { owner } = await founder(world, OPTIONS);
    const guest = await somebody(world, OPTIONS);
    await join(world, owner, guest, { role: 'admin' });
    const { organization: client } = guest.auth;
    const tooMuch = await client.createRole({ role: 'heir', permission: { organization: ['delete'] } });
    assertRefused(tooMuch, 403, 'YOU_ARE_NOT_ALLOWED_TO_CREATE_A_ROLE');
    assert.deepEqual(tooMuch.error.missingPermissions, ['organization:delete']);
    const unknown = await client.createRole({ role: 'sailor', permission: { boat: ['sail'] } });
    assertRefused(unknown, 400, 'INVALID_RESOURCE');
    const taken = await client.createRole({ role: 'owner', permission: { project: ['create'] } });
    assertRefused(taken, 400, 'ROLE_NAME_IS_ALREADY_TAKEN');
  });
}
