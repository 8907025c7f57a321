// ts-mls as the draft and RFC 9420 need it: everything that is set, and everything that is put right, is here.

import { webcrypto } from "node:crypto";

import {
  createCommit,
  createGroup,
  createGroupInfoWithExternalPubAndRatchetTree,
  decodeMlsMessage,
  defaultCapabilities,
  defaultCryptoProvider,
  defaultKeyPackageEqualityConfig,
  defaultKeyRetentionConfig,
  defaultPaddingConfig,
  emptyPskIndex,
  encodeMlsMessage,
  generateKeyPackageWithKey,
  getCiphersuiteFromName,
  getCiphersuiteImpl,
  joinGroup,
  joinGroupExternal,
} from "ts-mls";
import { encode as encodeStruct } from "ts-mls/codec/tlsEncoder.js";
import { decodeVarLenData, varLenDataEncoder } from "ts-mls/codec/variableLength.js";
import { decodeKeyPackage, encodeKeyPackage, makeKeyPackageRef } from "ts-mls/keyPackage.js";
import { decryptSenderData } from "ts-mls/privateMessage.js";

import { credentialBytes, credentialOf, deviceOf } from "./device.mjs";
import { Invalid, needed } from "./errors.mjs";

// Before version 19, node.js keeps it to itself, and ts-mls looks for it there.
globalThis.crypto ??= webcrypto;

const SUITE = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519";
/** Suite 1, the draft's own. */
export const suite = await getCiphersuiteImpl(getCiphersuiteFromName(SUITE), defaultCryptoProvider);

/** Of a key package: below a server's limit of 90 days. ts-mls's own is for ever. */
const LIFETIME_SECONDS = 60 * 24 * 60 * 60;
/** A clock that is a little behind ours. */
const SLACK_SECONDS = 60 * 60;
const LAST_RESORT = 0x000a;
const WIRE_FORMATS = {
  mls_public_message: 1,
  mls_private_message: 2,
  mls_welcome: 3,
  mls_group_info: 4,
};

const config = {
  keyRetentionConfig: defaultKeyRetentionConfig,
  keyPackageEqualityConfig: defaultKeyPackageEqualityConfig,
  paddingConfig: defaultPaddingConfig,
  lifetimeConfig: { maximumTotalLifetime: BigInt(LIFETIME_SECONDS + SLACK_SECONDS), validateLifetimeOnReceive: false },
  // Its own takes every credential.
  authService: {
    async validateCredential(credential, signatureKey) {
      try {
        credentialOf(credential, signatureKey);
        return true;
      } catch {
        return false;
      }
    },
  },
};

/** A key package and its secrets. */
export async function keyPackage(own, lastResort = false) {
  const now = Math.floor(Date.now() / 1000);
  const lifetime = { notBefore: BigInt(now - SLACK_SECONDS), notAfter: BigInt(now + LIFETIME_SECONDS) };
  const capabilities = defaultCapabilities();
  capabilities.extensions.push(LAST_RESORT);
  const credential = { credentialType: "basic", identity: credentialBytes(own) };
  const extensions = lastResort ? [{ extensionType: LAST_RESORT, extensionData: new Uint8Array() }] : [];
  const keys = { signKey: own.signKey, publicKey: own.signatureKey };
  const made = await generateKeyPackageWithKey(credential, capabilities, lifetime, extensions, keys, suite);
  return { ...made, lastResort, ref: await makeKeyPackageRef(made.publicPackage, suite.hash) };
}

/** A bare `KeyPackage`. */
export function keyPackageBytes({ publicPackage }) {
  return encodeKeyPackage(publicPackage);
}

/** Reads a bare `KeyPackage`. */
export function parseKeyPackage(bytes) {
  return whole(decodeKeyPackage(bytes, 0), bytes, "a key package");
}

/** A new group, of which its founder is the only member. */
export async function foundGroup(room, own) {
  const { publicPackage, privatePackage } = await keyPackage(own);
  return createGroup(new TextEncoder().encode(room), publicPackage, privatePackage, [], suite, config);
}

/**
 * A commit with these proposals, as a `PublicMessage`, and what comes of it: `{ group, commit, groupInfo, welcome, consumed }`. Nothing has
 * changed until `group` replaces the group.
 */
export async function makeCommit(group, proposals) {
  const options = { wireAsPublicMessage: true, extraProposals: proposals, ratchetTreeExtension: true };
  const made = await createCommit({ state: group, pskIndex: emptyPskIndex, cipherSuite: suite }, options);
  return {
    group: made.newState,
    commit: encodeMlsMessage(made.commit),
    groupInfo: await groupInfo(made.newState),
    welcome: made.welcome && encodeMlsMessage({ version: "mls10", wireformat: "mls_welcome", welcome: made.welcome }),
    consumed: made.consumed,
  };
}

/** An external commit into the group of a `GroupInfo`, like `makeCommit`. */
export async function makeExternalCommit(info, own) {
  const { publicPackage, privatePackage } = await keyPackage(own);
  const made = await joinGroupExternal(info, publicPackage, privatePackage, false, readsExternalPub, undefined, config);
  const commit = { version: "mls10", wireformat: "mls_public_message", publicMessage: made.publicMessage };
  return {
    group: made.newState,
    commit: encodeMlsMessage(commit),
    groupInfo: await groupInfo(made.newState),
    welcome: undefined,
    consumed: [],
  };
}

/** Joins with the one of the key packages that the Welcome is for. Returns `{ group, used }`. */
export async function joinByWelcome(welcome, packages) {
  const isFor = ({ ref }) => welcome.secrets.some(({ newMember }) => Buffer.compare(newMember, ref) === 0);
  const used = needed(packages.find(isFor), "a Welcome for none of our key packages");
  const { publicPackage, privatePackage } = used;
  const group = await joinGroup(welcome, publicPackage, privatePackage, emptyPskIndex, suite, undefined, undefined, config);
  return { group, used };
}

/** The leaf that made a message, as far as the message says so itself: ts-mls checks it and does not tell. */
export async function senderOf(group, message) {
  const { epoch } = message;
  const now = { senderDataSecret: group.keySchedule.senderDataSecret, ratchetTree: group.ratchetTree };
  const then = epoch < group.groupContext.epoch ? group.historicalReceiverData.get(epoch) : now;
  const { senderDataSecret, ratchetTree } = needed(then, `a message of epoch ${epoch}, of which this device has no keys`);
  const data = needed(await decryptSenderData(message, senderDataSecret, suite), "malformed sender data");
  return deviceAt(ratchetTree, data.leafIndex);
}

/** Whose the leaf with that index is. */
export function deviceAt(tree, leafIndex) {
  const node = tree[2 * leafIndex];
  if (node?.nodeType !== "leaf") {
    throw new Invalid("its sender is not in the group");
  }
  return deviceOf(node.leaf);
}

/** The members, each with the index of its leaf. */
export function members(group) {
  return group.ratchetTree.flatMap((node, index) =>
    node?.nodeType === "leaf" ? [{ ...deviceOf(node.leaf), leafIndex: index / 2 }] : [],
  );
}

/** An `MLSMessage`, or the structure of that wire format without its header: the draft's wording allows both. */
export function parseMessage(wireformat, bytes) {
  const header = Uint8Array.of(0, 1, 0, WIRE_FORMATS[wireformat]);
  const has = Buffer.compare(bytes.subarray(0, header.length), header) === 0;
  const full = has ? bytes : new Uint8Array([...header, ...bytes]);
  return whole(decodeMlsMessage(full, 0), full, wireformat);
}

/** Others can join by it, and the hub can follow from it. */
function groupInfo(group) {
  return createGroupInfoWithExternalPubAndRatchetTree(group, [], writesExternalPub).then((info) =>
    encodeMlsMessage({ version: "mls10", wireformat: "mls_group_info", groupInfo: info }),
  );
}

// RFC 9420, section 12.4.3.2: the extension's data is a structure, `HPKEPublicKey external_pub`, and so has its length before it. ts-mls
// takes the data for the key itself, both when it writes and when it reads one. The two suites below differ from the real one in
// that, and are used only where no other key goes through the function.
const writesExternalPub = {
  ...suite,
  hpke: {
    ...suite.hpke,
    exportPublicKey: async (key) => encodeStruct(varLenDataEncoder)(await suite.hpke.exportPublicKey(key)),
  },
};
const X25519_BYTES = 32;
const readsExternalPub = {
  ...suite,
  hpke: {
    ...suite.hpke,
    // The keys of the tree, too, go through here: those are not prefixed.
    importPublicKey: (bytes) =>
      suite.hpke.importPublicKey(bytes.length === X25519_BYTES ? bytes : whole(decodeVarLenData(bytes, 0), bytes, "external_pub")),
  },
};

function whole(decoded, bytes, what) {
  if (decoded?.[1] !== bytes.length) {
    throw new Invalid(`${what} is malformed`);
  }
  return decoded[0];
}
