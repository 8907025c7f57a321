// What holds without a server. `npm test`

import assert from "node:assert/strict";
import { test } from "node:test";

import { acceptAll, createGroupInfoWithExternalPubAndRatchetTree, emptyPskIndex, processMessage } from "ts-mls";

import { decode, encode } from "./api.mjs";
import { checkDevice, credentialBytes, deviceObject, deviceOf, generateDevice, parseCredential, utf8 } from "./device.mjs";
import {
  foundGroup,
  joinByWelcome,
  keyPackage,
  keyPackageBytes,
  makeCommit,
  makeExternalCommit,
  members,
  parseKeyPackage,
  parseMessage,
  suite,
} from "./stack.mjs";

const device = (name) => generateDevice(`@${name}:a.example`, name.toUpperCase(), suite.signature);
const add = async (package_) => ({ proposalType: "add", add: { keyPackage: parseKeyPackage(keyPackageBytes(await package_)) } });
const authenticator = (group) => encode(group.keySchedule.epochAuthenticator);

test("a credential is three fields with their lengths, and nothing else", () => {
  const bytes = credentialBytes({ user: "@a:b", device: "D", signatureKey: Uint8Array.of(1, 2) });
  assert.deepEqual(Buffer.from(bytes), Buffer.from("\x04@a:b\x01D\x02\x01\x02", "latin1"));
  assert.deepEqual(parseCredential(bytes).device, "D");
  for (const wrong of [bytes.subarray(1), bytes.subarray(0, -1), Uint8Array.of(...bytes, 0), Uint8Array.of(1, 0xff, 0, 0)]) {
    assert.throws(() => parseCredential(wrong), /malformed credential/);
  }
});

test("a leaf whose credential names another key is no device", async () => {
  const { publicPackage } = await keyPackage(await device("alice"));
  assert.equal(deviceOf(publicPackage.leafNode).device, "ALICE");
  const other = { ...publicPackage.leafNode, signaturePublicKey: new Uint8Array(32) };
  assert.throws(() => deviceOf(other), /another key/);
});

test("a device object that was changed after it was signed is refused", async () => {
  const object = await deviceObject(await device("alice"), suite.signature);
  assert.equal((await checkDevice(object, "@alice:a.example", suite.signature)).device, "ALICE");
  const more = { ...object, algorithms: [...object.algorithms, "m.other"] };
  await assert.rejects(checkDevice(more, "@alice:a.example", suite.signature), /does not verify/);
  await assert.rejects(checkDevice(object, "@bob:a.example", suite.signature), /another user/);
});

test("base64 has no padding", () => {
  assert.equal(encode(utf8("a")), "YQ");
  assert.deepEqual(decode("YQ"), utf8("a"));
  assert.throws(() => decode("YQ=="), /base64/);
});

test("the external key goes out with its length before it, and comes in so", async () => {
  const alice = await foundGroup("!room:a.example", await device("alice"));
  const { group, groupInfo: bytes } = await makeCommit(alice, []);
  const { groupInfo } = parseMessage("mls_group_info", bytes);
  const external = groupInfo.extensions.find(({ extensionType }) => extensionType === "external_pub");
  assert.equal(external.extensionData.length, 33);
  assert.equal(external.extensionData[0], 32);

  const joined = await makeExternalCommit(groupInfo, await device("bob"));
  assert.deepEqual(members(joined.group).map(({ device: id }) => id), ["ALICE", "BOB"]);
  assert.equal(joined.group.groupContext.epoch, group.groupContext.epoch + 1n);
});

test("whoever is added by a Welcome has the authenticator of whoever added", async () => {
  const alice = await foundGroup("!room:a.example", await device("alice"));
  const packages = [await keyPackage(await device("bob")), await keyPackage(await device("bob"), true)];
  const made = await makeCommit(alice, [await add(packages[1])]);
  const { welcome } = parseMessage("mls_welcome", made.welcome);
  const { group, used } = await joinByWelcome(welcome, packages);
  assert.equal(authenticator(group), authenticator(made.group));
  assert.ok(used.lastResort);
  await assert.rejects(joinByWelcome(welcome, [packages[0]]), /none of our key packages/);
});

// Deviations of ts-mls that the README names: when one of these fails, it has been mended.

test("ts-mls by itself writes the external key without its length", async () => {
  const group = await foundGroup("!room:a.example", await device("alice"));
  const info = await createGroupInfoWithExternalPubAndRatchetTree(group, [], suite);
  const external = info.extensions.find(({ extensionType }) => extensionType === "external_pub");
  assert.equal(external.extensionData.length, 32);
});

test("ts-mls refuses a tree in which a leaf is unmerged at a node, but not above it", async () => {
  const follow = async (group, { commit }) =>
    (await processMessage(parseMessage("mls_public_message", commit), group, emptyPskIndex, acceptAll, suite)).newState;
  const packages = await Promise.all(["bob", "carol", "dave", "erin", "frank", "grace"].map(async (name) => keyPackage(await device(name))));
  const adds = await Promise.all(packages.map(add));
  const alice = await foundGroup("!room:a.example", await device("alice"));

  const five = await makeCommit(alice, adds.slice(0, 4));
  const { group: erin } = await joinByWelcome(parseMessage("mls_welcome", five.welcome).welcome, [packages[3]]);
  const four = await makeCommit(five.group, [{ proposalType: "remove", remove: { removed: 3 } }]);
  const updated = await makeCommit(four.group, []);
  // Frank takes Dave's leaf, below a node that Alice has just filled; then Erin, who is not below it, fills the root.
  const again = await makeCommit(updated.group, [adds[4]]);
  let across = erin;
  for (const commit of [four, updated, again]) {
    across = await follow(across, commit);
  }
  const filled = await makeCommit(across, []);
  assert.equal(authenticator(await follow(again.group, filled)), authenticator(filled.group));
  const last = await makeCommit(filled.group, [adds[5]]);
  const { welcome } = parseMessage("mls_welcome", last.welcome);
  await assert.rejects(joinByWelcome(welcome, [packages[5]]), /unmerged_leaves/);
});
