// A room's group on this device, and how what is in events becomes MLS.

import { acceptAll, emptyPskIndex, processMessage, zeroOutUint8Array } from "ts-mls";
import { encodeGroupContext } from "ts-mls/groupContext.js";

import { decode } from "./api.mjs";
import { ALGORITHM, deviceOf, same, sameDevice, utf8 } from "./device.mjs";
import { CannotDo, Invalid, needed } from "./errors.mjs";
import { deviceAt, joinByWelcome, members, parseMessage, senderOf, suite } from "./stack.mjs";

export class Room {
  /** The group, if this device is or was in it. ts-mls never changes one: it makes the next. */
  group;
  /** The event of the commit that began the epoch. */
  commit = "";
  /** Removed: the group is kept as it was, to see that it opens nothing any longer. */
  removed = false;
  /**
   * Our commit without an outcome: what `makeCommit` gave, with `message` (of the event, by which its echo is known), `lpduId` (under
   * which it went to another server's hub), `external`, and `recipients` (whom it adds).
   */
  pending;
  /** What became of the last one: `{ won }` or `{ error }`. */
  outcome;
  /** Events of the time before this device was in the group. */
  held = [];
  /** Ciphertexts of our own messages, which MLS does not let their sender open. */
  sent = new Set();

  constructor(id) {
    this.id = id;
  }

  isIn() {
    return this.group !== undefined && !this.removed;
  }

  /** The group, as long as this device is in it. */
  current() {
    if (!this.isIn()) {
      throw new CannotDo("this device is not in the room's group");
    }
    return this.group;
  }

  epoch() {
    return Number(this.current().groupContext.epoch);
  }

  /** What both sides must agree on, and who is in it. */
  state() {
    const { groupContext, keySchedule } = this.current();
    return {
      epoch: Number(groupContext.epoch),
      epoch_authenticator: hex(keySchedule.epochAuthenticator),
      tree_hash: hex(groupContext.treeHash),
      members: members(this.group).map(({ user, device }) => [user, device]),
      room: this.id,
      commit: this.commit,
    };
  }

  /** Opens `m.room.encrypted`. Returns `{ device, payload }`; `undefined` if it is our own. */
  async open(event) {
    const { algorithm, ciphertext } = event.content ?? {};
    if (this.sent.delete(needed(ciphertext, "m.room.encrypted without `ciphertext`"))) {
      return undefined;
    }
    if (algorithm !== ALGORITHM) {
      throw new Invalid("another algorithm than the room's");
    }
    // After a removal, too: to see that it fails.
    if (this.group === undefined) {
      throw new CannotDo("this device is not in the room's group");
    }
    const message = parseMessage("mls_private_message", decode(ciphertext));
    const by = await senderOf(this.group, message.privateMessage);
    const opened = await processMessage(message, this.group, emptyPskIndex, () => "reject", suite);
    if (opened.kind !== "applicationMessage") {
      throw new Invalid("m.room.encrypted that holds no message");
    }
    this.group = opened.newState;
    opened.consumed.forEach(zeroOutUint8Array);
    if (event.sender !== by.user) {
      throw new Invalid(`it was encrypted by a device of ${by.user}`);
    }
    return { device: by.device, payload: JSON.parse(new TextDecoder().decode(opened.message)) };
  }

  /**
   * Takes another device's commit from the log. Returns `{ by, external }`, or `{ removed }` if that is what it did to this device;
   * `undefined` if it is part of the state that this device joined with.
   */
  async follow(event) {
    const parsed = parseMessage("mls_public_message", decode(commitContent(event).message));
    const { content } = parsed.publicMessage;
    if (content.contentType !== "commit") {
      throw new Invalid("an m.mls.commit that holds no commit");
    }
    const before = this.current();
    if (content.epoch < before.groupContext.epoch) {
      return undefined;
    }
    const { newState, consumed } = await processMessage(parsed, before, emptyPskIndex, acceptAll, suite);
    const external = content.sender.senderType === "new_member_commit";
    const leaf = content.commit.path && deviceOf(content.commit.path.leafNode);
    const by = external ? needed(leaf, "an external commit without a leaf") : deviceAt(before.ratchetTree, content.sender.leafIndex);
    if (by.user !== event.sender) {
      throw new Invalid("a commit that its committer's user did not send");
    }
    if (leaf !== undefined && !sameDevice(by, leaf)) {
      throw new Invalid("a commit that makes its committer another device");
    }
    const removed = newState.groupActiveState.kind === "removedFromGroup";
    if (removed) {
      this.removed = true;
      this.held = [event];
    } else {
      this.group = newState;
      this.commit = event.event_id;
      consumed.forEach(zeroOutUint8Array);
    }
    if (this.pending !== undefined) {
      this.pending = undefined;
      this.outcome = { won: false };
    }
    return removed ? { removed } : { by, external };
  }

  /** Our own commit is in the log: now it counts. Returns what was pending. */
  apply(eventId) {
    const { pending } = this;
    this.pending = undefined;
    const next = pending.group;
    const epoch = this.group?.groupContext.epoch;
    const past = pending.external ? undefined : next.historicalReceiverData.get(epoch);
    if (past !== undefined) {
      // Messages of the past epoch may have come and gone since the commit was made, and have used keys up.
      next.historicalReceiverData.set(epoch, { ...past, secretTree: this.group.secretTree });
    }
    pending.consumed.forEach(zeroOutUint8Array);
    this.group = next;
    this.removed = false;
    this.commit = eventId;
    return pending;
  }

  /**
   * Joins by a Welcome, `{ sender, bytes }`, if it leads into the group that the commit in the room's log began. Returns `{ by, used }`:
   * who added us, and the key package it was for.
   */
  async join(event, welcome, packages) {
    const { welcome: parsed } = parseMessage("mls_welcome", welcome.bytes);
    const { group, used } = await joinByWelcome(parsed, packages);
    const { groupInfo } = parseMessage("mls_group_info", decode(commitContent(event).publicGroupState));
    if (!same(encodeGroupContext(groupInfo.groupContext), encodeGroupContext(group.groupContext))) {
      throw new Invalid("a Welcome into another group than the one that the commit began");
    }
    if (!same(group.groupContext.groupId, utf8(this.id))) {
      throw new Invalid("a Welcome into another room's group");
    }
    // The context says nothing of who made the commit; the commit does.
    const { content } = parseMessage("mls_public_message", decode(commitContent(event).message)).publicMessage;
    const by = deviceAt(group.ratchetTree, needed(content.sender.leafIndex, "a Welcome by no member"));
    if (by.user !== welcome.sender || by.user !== event.sender) {
      throw new Invalid("a Welcome that was not sent by whoever made the commit");
    }
    this.group = group;
    this.removed = false;
    this.commit = event.event_id;
    return { by, used };
  }

  /** What was held of the room since the event by which this device joined. */
  release(eventId) {
    const held = this.held.splice(0);
    const at = held.findIndex((event) => event.event_id === eventId);
    return at < 0 ? [] : held.slice(at + 1);
  }
}

/** `message` and `public_group_state` of `m.mls.commit`. */
export function commitContent(event) {
  const { message, public_group_state: publicGroupState } = event.content ?? {};
  return {
    message: needed(message, "m.mls.commit without `message`"),
    publicGroupState: needed(publicGroupState, "m.mls.commit without `public_group_state`"),
  };
}

function hex(bytes) {
  return Buffer.from(bytes).toString("hex");
}
