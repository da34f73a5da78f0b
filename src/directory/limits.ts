/**
 * Every bound of the directory, by name.
 *
 * What a holder keeps and what a message carries is limited here and nowhere else, so that somebody who floods the
 * directory runs into a limit that an answer can name.
 */

import { HOLDERS_PER_KEY } from '../cluster.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

/** How far two peers' clocks may differ before one refuses the other's records. */
export const CLOCK_SKEW_MS = 15 * MINUTE_MS

/** No holder keeps a record for longer than this, whatever the record asks for. */
export const MAX_LATEST_TTL_MS = 90 * DAY_MS
export const MAX_REPLICA_TTL_MS = DAY_MS
export const MAX_RUNNING_TTL_MS = DAY_MS
export const MAX_KEEP_TTL_MS = 90 * DAY_MS

// Records
export const MAX_LATEST_RECORD_BYTES = 256 * 1024
export const MAX_REPLICA_RECORD_BYTES = 2048
export const MAX_LEASE_RECORD_BYTES = 512
export const MAX_ADDRESSES_PER_REPLICA = 8
export const MAX_ADDRESS_CHARACTERS = 160

// One message: the largest latest record with a full sample of the largest replica records, and its frame
export const MAX_MESSAGE_BYTES = 320 * 1024 + 4096
export const MAX_PUTS_PER_REQUEST = 4
export const REPLICAS_PER_ANSWER = 32
export const IMAGES_PER_LATEST_ANSWER = 8

// A holder
export const DEFAULT_HOLDER_BYTES = 64 * 1024 * 1024
/** What a record costs beside its bytes: its place in the maps, and what was parsed of it. */
export const RECORD_OVERHEAD_BYTES = 512
/** Each table has a share of a holder's bytes, so that a flood of one cannot starve the others. */
export const TABLE_SHARE = { latest: 0.35, replicas: 0.35, sharers: 0.3 } as const
export const MAX_KEYS_PER_TABLE = 65_536
export const MAX_REPLICAS_PER_KEY = 256
/** Of those, at most so many whose address nobody could confirm. */
export const MAX_UNVERIFIED_PER_KEY = 64
/** Of the replica table's bytes, what records without a confirmed address may fill. */
export const UNVERIFIED_SHARE = 0.25
export const MAX_RECORDS_PER_SIGNER = 1024
export const MAX_BYTES_PER_SIGNER = 8 * 1024 * 1024
/** Leases kept of one release: those with the smallest hashes. Above, their number is estimated, within 1/sqrt of this. */
export const MAX_LEASES_PER_KEY = 1024
/** Remembered of one release: who gave a lease back, so that an older one that is replayed does not count again. */
export const MAX_GIVEN_BACK_PER_KEY = 1024
/** Releases with leases, or that somebody asks for, at one holder. */
export const MAX_RELEASES_HELD = 16_384
/** A pseudonym is of one appliance, and has one lease for each of its versions in use. */
export const MAX_LEASES_PER_SIGNER = 256
/** A holder that heard nothing of a release for longer may not have been among the closest: its tenure begins anew. */
export const TENURE_CONTACT_GAP_MS = HOUR_MS
/** With fewer leases than this part of MAX_LEASES_PER_KEY, a holder that was full wants everybody's again. */
export const REFILL_BELOW = 0.75
/** A holder that was away for longer than this may have missed records: its tenure begins anew. */
export const TENURE_GAP_MS = 10 * MINUTE_MS
export const EXPIRY_SWEEP_MS = MINUTE_MS

// Serving
export const MAX_REQUESTS_AT_ONCE = 128
/** So that one peer, with as many connections as it likes, cannot keep all the others waiting. */
export const MAX_REQUESTS_AT_ONCE_PER_PEER = 16
/** And nobody with many ids: of one network of the Internet (crowdOf). */
export const MAX_REQUESTS_AT_ONCE_PER_NETWORK = 48
export const MAX_STREAMS_PER_CONNECTION = 16
export const REQUESTS_PER_PEER_BURST = 200
export const REQUESTS_PER_PEER_PER_SECOND = 20
export const MAX_METERED_PEERS = 4096
export const SERVE_TIMEOUT_MS = 10_000

// Dialling back
export const MAX_DIAL_BACKS_WAITING = 256
export const DIAL_BACKS_AT_ONCE = 4
export const HOSTS_PER_DIAL_BACK = 3
export const DIAL_BACK_TIMEOUT_MS = 8_000
export const DIAL_BACKS_PER_MINUTE = 120
/** On behalf of one peer, whomever it announces: an honest one needs a dial whenever its addresses change. */
export const DIAL_BACKS_PER_ASKER_PER_MINUTE = 10
/** So that many invented announcers cannot turn the holders against one host (of IPv6: one /64). */
export const DIAL_BACKS_PER_HOST_PER_MINUTE = 30
export const MAX_DIAL_BACK_RESULTS = 4096
export const DIAL_BACK_SUCCESS_VALID_MS = 6 * HOUR_MS
export const DIAL_BACK_FAILURE_VALID_MS = 10 * MINUTE_MS

// Asking
export const LOOKUP_TIMEOUT_MS = 15_000
export const DIAL_TIMEOUT_MS = 5_000
export const ANSWER_TIMEOUT_MS = 5_000
/** A search ends early when so many holders have answered … */
export const ANSWERS_WANTED = 5
/** … and so many of them offer the same newest record. */
export const AGREEING_WANTED = 3
export const MAX_REPLICAS_FOUND = 64
export const REPLICAS_WANTED = 8

// What a client remembers
export const MAX_APPLIANCES_REMEMBERED = 4096
export const MAX_PUBLISHERS_REMEMBERED = 4096

// Announcing
export const MAX_ANNOUNCEMENTS = 16_384
export const ANNOUNCEMENTS_AT_ONCE = 2
/** Renewals happen at a third of the TTL, give or take this part of it. */
export const RENEWAL_JITTER = 0.1
export const ANNOUNCE_RETRY_MS = 2_000
/** When fewer peers than a full set of holders were known, more are looked for after this time, doubling. */
export const THIN_RETRY_MS = 30_000
export const FULL_SET_OF_HOLDERS = HOLDERS_PER_KEY

// Sharing
export const MAX_SHARED_RELEASES = 1024
/** A lease that holds for long is renewed more often than at a third of that: who holds it may change. */
export const MAX_LEASE_RENEWAL_MS = 6 * HOUR_MS
/** A lease whose hash is above so many times a holder's threshold need not be renewed there. */
export const FAR_ABOVE = 2
/** Renewals for which a lease then rests, which is one TTL. */
export const REST_RENEWALS = 3
/** Holders that a resting sharer asks for their threshold, one after another, until one answers. */
export const PROBES_TRIED = 3
/** Replicas that a lease is also put to. */
export const REPLICAS_TOLD = 8
/** Of those who were told of a lease, remembered to be told when it is given back. */
export const MAX_PEERS_TOLD = 96

// Counting
/** Replicas that are asked beside the holders. */
export const REPLICAS_ASKED = 16
/** For how long a holder that does not answer is missed: what most sharers' leases hold for, whatever is set here. */
export const MISSED_FOR_MS = 30 * MINUTE_MS
/** Holders that did not answer, and since when: remembered by who counts. */
export const MAX_MISSING_PEERS = 4096
/** A holder that claims more than so many times the middle one's number is left out of the count. */
export const OUTLIER_FACTOR = 2
export const OUTLIER_ALLOWANCE = 16
