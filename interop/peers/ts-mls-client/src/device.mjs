// Who a device is: the draft's `BasicCredential` (LM #int-mls-credentials) inside MLS's basic credential, and the device object.
// Written from the draft and Nabe's decisions, without a line of Nabe's.

import { mapDecoders } from "ts-mls/codec/tlsDecoder.js";
import { contramapBufferEncoders, encode as encodeStruct } from "ts-mls/codec/tlsEncoder.js";
import { decodeVarLenData, varLenDataEncoder } from "ts-mls/codec/variableLength.js";

import { decode, encode } from "./api.mjs";
import { Invalid, needed } from "./errors.mjs";

/** `m.mls.v1.<suite>` */
export const ALGORITHM = "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519";
/** Of Welcomes. */
export const WELCOME = "m.mls.v1.welcome.dhkemx25519-aes128gcm-sha256-ed25519";
/** Of key packages. */
export const KEY_PACKAGE = "m.mls.v1.key_package.dhkemx25519-aes128gcm-sha256-ed25519";
const CREDENTIAL = "m.mls.v1.credential.ed25519";

/** The draft's structure as bytes. */
export function credentialBytes({ user, device, signatureKey }) {
  return encodeCredential([utf8(user), utf8(device), signatureKey]);
}

/** Reads the draft's structure; nothing may follow it. */
export function parseCredential(bytes) {
  let parsed;
  try {
    parsed = decodeCredential(bytes, 0);
    if (parsed?.[1] === bytes.length) {
      const [user, device, signatureKey] = parsed[0];
      return { user: text(user), device: text(device), signatureKey };
    }
  } catch {
    // Said below.
  }
  throw new Invalid("a malformed credential");
}

/** Whose an MLS leaf is. Its credential must name the leaf's own key. */
export function deviceOf(leaf) {
  return credentialOf(leaf.credential, leaf.signaturePublicKey);
}

/** The draft's credential inside MLS's, for that key. */
export function credentialOf(credential, signatureKey) {
  if (credential.credentialType !== "basic") {
    throw new Invalid("a credential whose type is not basic");
  }
  const parsed = parseCredential(credential.identity);
  if (!same(parsed.signatureKey, signatureKey)) {
    throw new Invalid("a credential for another key than the leaf's");
  }
  return parsed;
}

/** Whether two credentials are of the same device. */
export function sameDevice(one, other) {
  return one.user === other.user && one.device === other.device;
}

/** This device's keys, new. `signature` is the suite's. */
export async function generateDevice(user, device, signature) {
  const { signKey, publicKey } = await signature.keygen();
  return { user, device, signKey, signatureKey: publicKey };
}

/** The object to publish: signed with the MLS signature key, without MLS's label. */
export async function deviceObject(own, signature) {
  const keyId = `${CREDENTIAL}:${own.device}`;
  const object = {
    user_id: own.user,
    device_id: own.device,
    algorithms: [ALGORITHM],
    keys: { [keyId]: encode(credentialBytes(own)) },
  };
  const signed = await signature.sign(own.signKey, utf8(canonical(object)));
  return { ...object, signatures: { [own.user]: { [keyId]: encode(signed) } } };
}

/**
 * Checks another device's object as LM #int-mls-credentials has it. Returns the credential that its leaf must have; `undefined` if it
 * cannot do the suite.
 */
export async function checkDevice(object, user, signature) {
  const device = needed(object.device_id, "a device object without `device_id`");
  if (object.user_id !== user) {
    throw new Invalid("a device object of another user");
  }
  if (!object.algorithms?.includes(ALGORITHM)) {
    return undefined;
  }
  const keyId = `${CREDENTIAL}:${device}`;
  const key = needed(object.keys?.[keyId], "a device object without the key of its suite");
  const signed = needed(object.signatures?.[user]?.[keyId], "a device object that is not signed");
  const credential = parseCredential(decode(key));
  if (!sameDevice(credential, { user, device })) {
    throw new Invalid("a device object with another device's key");
  }
  const { signatures: _, ...rest } = object;
  if (!(await signature.verify(credential.signatureKey, utf8(canonical(rest)), decode(signed)))) {
    throw new Invalid("the signature of a device object does not verify");
  }
  return credential;
}

/** Whether both hold the same bytes. */
export function same(one, other) {
  return Buffer.compare(one, other) === 0;
}

/** Text as bytes. */
export function utf8(value) {
  return new TextEncoder().encode(value);
}

/** RFC 8785: `sort` compares UTF-16 code units, and `JSON.stringify` writes strings and numbers as it wants them. */
function canonical(value) {
  if (Array.isArray(value)) {
    return `[${value.map(canonical).join()}]`;
  }
  if (value !== null && typeof value === "object") {
    const names = Object.keys(value).sort();
    return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join()}}`;
  }
  return JSON.stringify(value);
}

function text(bytes) {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
}

const three = [varLenDataEncoder, varLenDataEncoder, varLenDataEncoder];
const encodeCredential = encodeStruct(contramapBufferEncoders(three, (fields) => fields));
const decodeCredential = mapDecoders([decodeVarLenData, decodeVarLenData, decodeVarLenData], (...fields) => fields);
