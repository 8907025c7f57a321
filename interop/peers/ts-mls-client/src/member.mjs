// A device in rooms' groups, and what it does when told.

import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

import { createApplicationMessage, encodeMlsMessage, zeroOutUint8Array } from "ts-mls";

import { decode, encode } from "./api.mjs";
import { ALGORITHM, KEY_PACKAGE, checkDevice, deviceOf, same, sameDevice, utf8 } from "./device.mjs";
import { CannotDo, Invalid, needed, Refused } from "./errors.mjs";
import { Room } from "./room.mjs";
import {
  foundGroup,
  keyPackage,
  keyPackageBytes,
  makeCommit,
  makeExternalCommit,
  members,
  parseKeyPackage,
  parseMessage,
  suite,
} from "./stack.mjs";

/** Key packages to upload at once. */
const STOCK = 10;

/** One device. A command is `done` with an answer, or a commit is `sent` and its echo to be waited for, or the group is `behind`. */
export class Member {
  rooms = new Map();
  /** Whose secrets are here. */
  packages = [];
  /** Welcomes whose commit has not come, by its event's ID. */
  welcomes = new Map();
  ready = false;

  constructor(api, own) {
    this.api = api;
    this.own = own;
  }

  room(id) {
    if (!this.rooms.has(id)) {
      this.rooms.set(id, new Room(id));
    }
    return this.rooms.get(id);
  }

  /** What became of the commit that was sent last, once. */
  outcome(id) {
    const room = this.room(id);
    const { outcome } = room;
    room.outcome = undefined;
    return outcome;
  }

  /** Whether a room's group is at this epoch or after it. To join externally is to read the epoch from the server. */
  hasReached(id, epoch) {
    const room = this.room(id);
    return !room.isIn() || room.epoch() >= epoch;
  }

  /** Uploads key packages, one of them a last resort (LM #int-mls-key-packages). */
  async stockUp() {
    const made = [];
    for (let count = 0; count < STOCK; count += 1) {
      made.push(await keyPackage(this.own));
    }
    made.push(await keyPackage(this.own, true));
    this.packages.push(...made);
    const upload = made.map((one) => ({ key: encode(keyPackageBytes(one)), last_resort: one.lastResort }));
    await this.api.uploadKeyPackages(this.own.device, KEY_PACKAGE, upload);
  }

  /** Does what a command says, as far as it can be done at once; `first` unless it was tried before. */
  async command(command, first) {
    const argument = (name) => {
      if (typeof command[name] !== "string") {
        throw new CannotDo(`\`${name}\` is missing`);
      }
      return command[name];
    };
    const verb = argument("do");
    if (verb === "create") {
      return this.#create(command);
    }
    const room = this.room(argument("room"));
    const post = async (what, body) => done(await this.api.post(`/rooms/${encodeURIComponent(room.id)}/${what}`, body));
    switch (verb) {
      case "invite":
      case "kick":
        return post(verb, { user_id: argument("user") });
      case "join":
        return post(verb, { via: command.via ?? (await this.#inviter(room)) });
      case "leave":
        return post(verb, {});
      case "found":
        return this.#found(room);
      case "add":
        return this.#add(room, argument("user"), command.device);
      case "remove":
        return this.#remove(room, argument("user"), command.device);
      case "update":
        return this.#commit(room, [], [], first ? command.hold_back_ms : 0);
      case "join_external":
        return this.#joinExternal(room);
      case "send":
        return this.#send(room, argument("text"));
      case "state":
        return done(room.state());
      default:
        throw new CannotDo(`there is no \`${verb}\``);
    }
  }

  /** A room, and its group (LM #int-mls-considerations, "Group Creation"). */
  async #create({ name, invite = [] }) {
    const answer = await this.api.post("/rooms", { name, encryption: ALGORITHM, invite }, randomUUID());
    return this.#found(this.room(needed(answer.room_id, "no room ID")));
  }

  /** The group of a room that has none. */
  async #found(room) {
    room.group = await foundGroup(room.id, this.own);
    return this.#commit(room, [], []);
  }

  /** The hub of whoever invited us, of whom a join can be asked. */
  async #inviter(room) {
    const { invites = [] } = await this.api.get("/rooms");
    const invite = invites.find(({ room_id: id }) => id === room.id);
    return invite?.hub === undefined ? [] : [invite.hub];
  }

  /** Adds the devices of a user, or one of them. */
  async #add(room, user, only) {
    const present = members(room.current());
    const [proposals, recipients] = [[], []];
    for (const object of await this.api.devices(user)) {
      // LM #int-mls-credentials: invalid devices must not be members.
      const credential = await checkDevice(object, user, suite.signature);
      if (credential === undefined || present.some((member) => sameDevice(member, credential))) {
        continue;
      }
      const { device } = credential;
      if (only !== undefined && only !== device) {
        continue;
      }
      const parsed = parseKeyPackage(await this.api.claim(user, device, KEY_PACKAGE));
      const named = deviceOf(parsed.leafNode);
      if (!sameDevice(named, credential) || !same(named.signatureKey, credential.signatureKey)) {
        throw new Invalid("a key package of another device, or not by the key in the device object");
      }
      proposals.push({ proposalType: "add", add: { keyPackage: parsed } });
      recipients.push({ user, device });
    }
    if (proposals.length === 0) {
      throw new CannotDo(`${user} has no device to add`);
    }
    return this.#commit(room, proposals, recipients);
  }

  /** Removes the devices of a user, or one of them. */
  async #remove(room, user, only) {
    const isMeant = (member) => member.user === user && (only === undefined || only === member.device);
    const leaves = members(room.current()).filter(isMeant);
    if (leaves.length === 0) {
      throw new CannotDo(`${user} has no such device in the group`);
    }
    const proposals = leaves.map(({ leafIndex }) => ({ proposalType: "remove", remove: { removed: leafIndex } }));
    return this.#commit(room, proposals, []);
  }

  async #commit(room, proposals, recipients, holdBackMs = 0) {
    const made = await makeCommit(room.current(), proposals);
    return this.#sendCommit(room, { ...made, external: false, recipients }, room.commit, holdBackMs);
  }

  /** An external commit, from the public state of the newest one. */
  async #joinExternal(room) {
    const newest = await this.api.group(room.id);
    const state = needed(newest.public_group_state, "no `public_group_state` in the room's group");
    const { groupInfo } = parseMessage("mls_group_info", decode(state));
    const { groupId, epoch, cipherSuite } = groupInfo.groupContext;
    if (!same(groupId, utf8(room.id)) || cipherSuite !== suite.name || Number(epoch) !== newest.epoch) {
      throw new Invalid("the room's group state is not that of its group");
    }
    const made = await makeExternalCommit(groupInfo, this.own);
    return this.#sendCommit(room, { ...made, external: true, recipients: [] }, newest.event_id, 0);
  }

  /** Sends a commit as `m.mls.commit` (LM #int-ev-mls-commit). */
  async #sendCommit(room, made, previous, holdBackMs) {
    const content = { message: encode(made.commit), public_group_state: encode(made.groupInfo) };
    if (previous) {
      content.prev_commit_event_id = previous;
    }
    room.outcome = undefined;
    room.pending = { ...made, message: content.message };
    // So that a test can have it lose a race.
    await pause(holdBackMs);
    try {
      const answer = await this.api.sendEvent(room.id, "m.mls.commit", content, randomUUID());
      room.pending.lpduId = answer.lpdu_id;
      return { sent: room.id };
    } catch (error) {
      room.pending = undefined;
      if (!(error instanceof Refused)) {
        throw error;
      }
      const current = room.isIn() ? room.epoch() : undefined;
      // Another server's hub says it in words only.
      const inWords = error.reason?.includes("epoch") ? (current ?? -1) + 1 : undefined;
      const epoch = error.currentEpoch ?? inWords;
      if (epoch === undefined || (!made.external && epoch === current)) {
        throw error;
      }
      return { behind: room.id, epoch };
    }
  }

  /** Encrypts and sends a text (LM #int-ev-encrypted). */
  async #send(room, text) {
    const payload = { type: "m.message", content: { "m.text": [{ body: text }] } };
    const made = await createApplicationMessage(room.current(), utf8(JSON.stringify(payload)), suite);
    room.group = made.newState;
    made.consumed.forEach(zeroOutUint8Array);
    const message = { version: "mls10", wireformat: "mls_private_message", privateMessage: made.privateMessage };
    const ciphertext = encode(encodeMlsMessage(message));
    room.sent.add(ciphertext);
    const content = { algorithm: ALGORITHM, ciphertext, commit_event_id: room.commit };
    return done(await this.api.sendEvent(room.id, "m.room.encrypted", content, randomUUID()));
  }
}

function done(answer) {
  return { done: answer };
}
