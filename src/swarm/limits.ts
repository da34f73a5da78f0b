/**
 * The bounds of the swarm. No queue, map, message or loop of it is without one of these.
 *
 * They are this peer's own: a requester that stays below another server's bounds never notices them, one that does not gets an
 * answer that says so. What both ends must agree on is in ../cluster.ts and ./frames.ts.
 */

import { BLOCK_SIZE_BYTES, MAX_STREAM_WINDOW_BYTES } from '../cluster.ts'

// One message
export const MAX_BLOCKS_PER_MESSAGE = 512
export const MAX_NODES_PER_MESSAGE = 64
export const MAX_HAVE_PAGES_PER_MESSAGE = 1024
export const MAX_AGENT_LENGTH = 64
export const MAX_BUSY_HINTS = 16
export const MAX_HINT_ADDRESSES = 8
export const MAX_ADDRESS_LENGTH = 256
export const MAX_PEER_ID_LENGTH = 128
export const MAX_PROBLEM_LENGTH = 512

// The greeting
export const MAX_RECORDS_PER_GREETING = 16
export const MAX_GREETING_BYTES = 1024 * 1024

// All requesters of one network (addresses.ts: crowdOf), at the serving side
/** Of the places for requesters, and of those where one waits to say what it wants: who has many ids does not keep everybody else out. */
export const MAX_NETWORK_SHARE = 1 / 4
/** So many each network may have in any case. */
export const MIN_PLACES_PER_NETWORK = 4

// One requester, at the serving side
export const MAX_IMAGES_PER_STREAM = 64
/** Blocks and nodes of one requester that wait for their answer. */
export const MAX_QUEUED_PER_REQUESTER = 1024
/** Bytes handed to a requester's stream that its muxer has not taken: above, its requests are not read. */
export const MAX_UNSENT_BYTES = 256 * 1024
/** Above this, a stream to whoever does not read is ended. */
export const MAX_UNSENT_CONTROL_BYTES = 4 * 1024 * 1024
/** Blocks that are read and hashed at the same time, over all requesters. */
export const MAX_READS_AT_ONCE = 4
/** What a requester may grant and not have been sent: far more than a window. */
export const MAX_CREDIT_BYTES = 4 * MAX_STREAM_WINDOW_BYTES
export const COMPRESSED_CACHE_BYTES = 32 * 1024 * 1024
/** News of a partial replica to one requester, and to a neighbour: not more often than this. */
export const HAVE_INTERVAL_MS = 1000
export const NEAR_HAVE_INTERVAL_MS = 100
/** Blocks that are fetched on behalf of one neighbour at a time: a little more than one asks for. */
export const MAX_ON_BEHALF_PER_REQUESTER = 192
export const MAX_ON_BEHALF = 1024
/** Blocks fetched for neighbours that nobody wanted here, for each use of an image: this share of its data, or 16 MiB if that is more. */
export const MAX_ON_BEHALF_SHARE = 0.25
export const MIN_ON_BEHALF_BLOCKS = 256
/** Pages (of 1,024 blocks) of one image whose blocks a replica tells, and that a requester remembers of it: 256 GiB. */
export const MAX_HAVE_PAGES = 4096

// The fetching side
/** Blocks and nodes that are wanted and not here, over all images; demand may go beyond. */
export const MAX_WANTED = 16 * 1024
export const MAX_REQUESTS_PER_REPLICA = 512
/** Of these, what only demand may use. */
export const REQUESTS_FOR_DEMAND = 64
export const MIN_WINDOW_BYTES = 2 * BLOCK_SIZE_BYTES
export const INITIAL_WINDOW_BYTES = 8 * BLOCK_SIZE_BYTES
export const MAX_WINDOW_BYTES = MAX_STREAM_WINDOW_BYTES
/** Verified blocks on their way into the pool; above, reading from the replicas pauses. */
export const MAX_UNSTORED_BYTES = 16 * 1024 * 1024
export const STORE_BATCH_BLOCKS = 64
/** Blocks asked for before the page that proves them has come; each may have to be held back. 16 MiB. */
export const MAX_EARLY_BLOCKS = 256
/** Nodes that came before their parents. */
export const MAX_HELD_NODES = 64
/** An index that was promised unasked is waited for this long from node to node, before its pages are asked for one by one. */
export const EAGER_PATIENCE_MS = 2_000
/** Peers that transfers are counted for one by one. */
export const MAX_COUNTED_PEERS = 256
/** What may lie unread in a paused stream: all that its window can have let through. */
export const MAX_UNREAD_BYTES = MAX_STREAM_WINDOW_BYTES + 1024 * 1024
/** Blocks of one fill that are wanted at a time: 64 MiB, four times the largest window. */
export const FILL_WINDOW_BLOCKS = 1024
/** Blocks of one boot profile that are wanted at a time: 32 MiB, twice the largest window. */
export const PROFILE_WINDOW_BLOCKS = 512
/** Pages of the index that a profile asks for at a time. */
export const MAX_PROFILE_PAGES = 256
/** Blocks fetched for a profile and never touched: this share of the image's data at most. */
export const MAX_PROFILE_WASTE = 0.25
/** Blocks that read-ahead may fetch in vain before it has proved useful: 16 MiB. */
export const MAX_UNEARNED_READ_AHEAD = 256
/** Blocks that one neighbour is asked to fetch on this peer's behalf at a time. */
export const MAX_ASKED_ON_BEHALF = 128
/** Replicas of one image to be connected with, and remembered. */
export const REPLICAS_PER_IMAGE = 8
export const MAX_KNOWN_REPLICAS = 64
export const MAX_REMEMBERED_LIARS = 4096
/** Peers that were silent, and have given nothing since. */
export const MAX_REMEMBERED_FAILURES = 256
export const MAX_OPEN_IMAGES = 4096

// Web seeds
/** Requests to one web seed that are under way. */
export const MAX_WEB_REQUESTS = 4
/** Neighbouring blocks that one request asks for. */
export const MAX_WEB_SPAN_BYTES = 1024 * 1024
/** Range indexes of one web seed that are remembered, at 4 KiB. */
export const MAX_RANGE_INDEXES = 256
/** Web seeds, and images that they do not have, that are not asked again for a while. */
export const MAX_WEB_SEED_PAUSES = 1024

// Time
/** Nobody who is connected could give what is wanted for so long, before a web seed is called. */
export const WEB_SEED_PATIENCE_MS = 2_000
export const DIAL_TIMEOUT_MS = 8_000
/** Of it, for whoever was called through a relay to call back. */
export const TURN_ROUND_MS = 4_000
/** The same where the relay carries blocks: a later call back is as welcome. */
export const SHORT_TURN_ROUND_MS = 1_000
export const GREETING_TIMEOUT_MS = 10_000
/** From OPEN to IMAGE. */
export const IMAGE_TIMEOUT_MS = 10_000
export const OPEN_TIMEOUT_MS = 30_000
/** A neighbour is told that a block does not come if it could not be fetched on its behalf in this time. */
export const ON_BEHALF_TIMEOUT_MS = 10_000
/** Whoever was sent nothing that it asked for keeps its place for this long where others want it. */
export const IDLE_STREAM_MS = 10 * 60_000
