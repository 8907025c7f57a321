// What a device makes of what comes by the event stream. `say` is told what happened.

import { randomUUID } from "node:crypto";

import { decode, encode } from "./api.mjs";
import { WELCOME } from "./device.mjs";
import { CannotDo, Invalid, needed } from "./errors.mjs";
import { commitContent } from "./room.mjs";

/** Takes in an item of the event stream. */
export async function receive(member, kind, data, say) {
  switch (kind) {
    case "ready":
      member.ready = true;
      return;
    case "room":
      await roomEvent(member, member.room(data.room_id), needed(data.event, "a room item without an event"), say);
      return;
    case "invite":
      say({ notice: "invite", room: data.room_id });
      return;
    case "to_device":
      await direct(member, data, say);
      return;
    case "event_rejected":
      rejected(member.room(data.room_id), data);
      return;
    case "key_packages_low":
      if (data.device_id === member.own.device) {
        await member.stockUp();
      }
      return;
    default:
  }
}

async function roomEvent(member, room, event, say) {
  switch (event.type) {
    case "m.mls.commit":
      await commitEvent(member, room, event, say);
      return;
    case "m.room.encrypted":
      await encryptedEvent(room, event, say);
      return;
    case "m.room.member":
      say({ notice: "membership", room: room.id, user: event.state_key, membership: event.content?.membership });
      return;
    default:
  }
}

async function encryptedEvent(room, event, say) {
  const notice = { room: room.id, event: event.event_id };
  try {
    const opened = await room.open(event);
    if (opened !== undefined) {
      say({ notice: "message", ...notice, sender: event.sender, ...opened });
    }
  } catch (error) {
    if (room.group === undefined) {
      room.held.push(event);
    }
    say({ notice: "undecryptable", ...notice, reason: sentence(error) });
  }
}

async function commitEvent(member, room, event, say) {
  const { message } = commitContent(event);
  if (room.pending?.message === message) {
    await echo(member, room, event.event_id, say);
    return;
  }
  if (!room.isIn()) {
    room.held.push(event);
    const welcome = member.welcomes.get(event.event_id);
    if (member.welcomes.delete(event.event_id)) {
      await join(member, room, event, welcome, say);
    }
    return;
  }
  const taken = await room.follow(event);
  if (taken?.removed) {
    say({ notice: "removed", room: room.id, commit: event.event_id });
  } else if (taken !== undefined) {
    tellEpoch(room, taken.by, taken.external, say);
  }
}

/** Our own commit is in the log: whom it added may be welcomed. */
async function echo(member, room, eventId, say) {
  const { external, recipients, welcome } = room.apply(eventId);
  if (welcome !== undefined) {
    const content = { algorithm: WELCOME, ciphertext: encode(welcome), commit_event_id: eventId };
    const messages = recipients.map(({ user, device }) => ({
      target: user,
      target_device: device,
      type: "m.room.encrypted",
      content,
    }));
    await member.api.post("/to_device", { messages }, randomUUID());
  }
  tellEpoch(room, member.own, external, say);
  room.outcome = { won: true };
  if (external) {
    await release(member, room, eventId, say);
  }
}

/** LM #int-mls-add-remove: Welcomes come by to-device messages. */
async function direct(member, data, say) {
  const { algorithm, ciphertext, commit_event_id: commit } = data.message ?? {};
  if (data.message_type !== "m.room.encrypted" || algorithm !== WELCOME) {
    return;
  }
  const welcome = { sender: data.sender, bytes: decode(needed(ciphertext, "a Welcome without `ciphertext`")) };
  for (const room of member.rooms.values()) {
    const event = room.held.find(({ event_id: id }) => id === commit);
    if (event !== undefined) {
      await join(member, room, event, welcome, say);
      return;
    }
  }
  member.welcomes.set(commit, welcome);
}

async function join(member, room, event, welcome, say) {
  const { by, used } = await room.join(event, welcome, member.packages);
  if (!used.lastResort) {
    member.packages = member.packages.filter((one) => one !== used);
  }
  say({ notice: "joined", room: room.id, commit: event.event_id });
  tellEpoch(room, by, false, say);
  await release(member, room, event.event_id, say);
}

/** What was held of the room before this device joined. */
async function release(member, room, eventId, say) {
  for (const event of room.release(eventId)) {
    await roomEvent(member, room, event, say);
  }
}

/** A commit of ours that another server's hub did not take. */
function rejected(room, data) {
  if (room.pending === undefined || room.pending.lpduId !== data.lpdu_id) {
    return;
  }
  room.pending = undefined;
  // The hub's sentence names the epoch if that was the reason; the commit that won is on its way then.
  const stale = data.error?.includes("epoch");
  room.outcome = stale ? { won: false } : { error: new CannotDo(data.error) };
}

/** A new epoch: everybody is told. */
function tellEpoch(room, by, external, say) {
  say({ ...room.state(), notice: "epoch", by: [by.user, by.device], external });
}

/** An error in words: ts-mls's have names that tell more than their texts. */
export function sentence(error) {
  return error instanceof Invalid || error instanceof CannotDo ? error.message : `${error.constructor.name}: ${error.message}`;
}
