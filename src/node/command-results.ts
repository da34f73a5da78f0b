/**
 * What the daemon's commands answer, and how far they are meanwhile: plain JSON, which is what `--json` prints.
 *
 * A field that scripts rely on stays; new ones may come.
 */
import type { AttachAnswer } from '../machine/attacher.ts'
import type { Reachability } from './nat.ts'
import type { TrafficState } from './traffic.ts'

/** How far a command is; `done` of `of` in the unit named. */
export interface Progress {
  /** What is being done, for a person: "reading", "fetching". */
  phase: string
  done: number
  of: number
  unit: 'bytes' | 'blocks' | 'percent'
}

export interface PublishResult {
  appliance: string
  version: string
  image: string
  /** Bytes of the disk. */
  size: number
  /** All of them, zero ones included. */
  blocks: number
  zeroBlocks: number
  /** Blocks that the pool did not have yet. */
  newBlocks: number
  /** Whether the release comes with a boot profile. */
  profile: boolean
  seconds: number
}

export interface ReplicateResult {
  appliance: string
  version: string
  image: string
  complete: boolean
}

export interface ReplicateEndResult {
  appliance: string
  /** What was promised until now. */
  ended: { version: string; image: string }[]
}

export type AttachResult = AttachAnswer

export interface MachineResult {
  machine: string
}

export interface SnapshotResult {
  machine: string
  snapshot: string
}

export interface SnapshotRow {
  snapshot: string
  note: string
  /** ISO 8601. */
  taken: string
  /** What was written for it, since the snapshot below it, takes on this host's disk. */
  bytes: number
  /** The machine as it is now goes on from it. */
  current: boolean
}

export interface ExportResult {
  machine: string
  file: string
  format: string
  /** Bytes of the disk. */
  size: number
  /** Bytes of its blocks that are not zero. */
  data: number
  seconds: number
}

export interface WebExportResult {
  appliance: string
  version: string
  image: string
  /** The one that the web seed's URL must lead to. */
  folder: string
  files: number
  /** Of the files. */
  bytes: number
  /** Of the disk. */
  size: number
  seconds: number
}

export interface ReleaseRow {
  appliance: string
  version: string
  image: string
  channels: string[]
  /** Of those, the ones that are still being rolled out, with their percentage. */
  rollout: Record<string, number>
  /** ISO 8601. */
  published: string
  /** ISO 8601: the end of the record that lists it. */
  expires: string
  /** Whether that has passed: the record may be out of date, and a new machine needs `--allow-expired`. */
  expired: boolean
  /** `count` is null when too few holders answered; `error` is the relative standard error of an estimate. */
  sharers: { count: number | null; exact: boolean; error?: number }
  replicas: number
  /** Of those, the ones that have all of it. */
  complete: number
  /** How many used it, the oldest sample first; one an hour, for a year. Of one's own appliances only. */
  history: { at: string; count: number | null; exact: boolean; error?: number }[]
  /** What collection would do now; null for another publisher's appliance. */
  collection: {
    action: 'keep' | 'remove'
    /** In words. */
    why: string[]
    unusedSeconds: number
    /** Null when it cannot be said. */
    earliestSeconds: number | null
  } | null
}

export interface GcResult {
  /** `freedBytes`: of blocks that only this version needs; they stay for one more `[directory] sharerTtl`. */
  removed: { appliance: string; version: string; image: string; freedBytes: number; forced: boolean }[]
  kept: {
    appliance: string
    version: string
    /** In words. */
    why: string
    reasons: { code: string; words: string; leftSeconds: number | null }[]
    unusedSeconds: number
    earliestSeconds: number | null
  }[]
  /** Of removed versions, and of blocks that no image here needs. */
  freedBytes: number
  /** Of those, the blocks of no image, which went at once. */
  unusedBytes: number
  /** Removed versions whose blocks are still here, and served. */
  trash: { appliance: string; version: string; image: string; leftSeconds: number }[]
}

export interface BootStatus {
  profile: {
    /** Whose it is: the release's, made of peers' recordings, one's own, or that of another version. */
    from: 'release' | 'peers' | 'own' | 'similar'
    /** Recordings that it was made of. */
    voices: number
    /** Blocks of the profile. */
    of: number
    /** Touched by the guest. */
    touched: number
    /** Here, on their way, or touched. */
    passed: number
    /** Fetched for it and not touched (yet). */
    unused: number
  } | null
  readAhead: { touched: number; untouched: number }
}

export interface MachineStatus {
  name: string
  appliance: string
  version: string
  image: string
  size: number
  attached: boolean
  readOnly: boolean
  /** NBD connections. */
  clients: number
  layers: number
  /** What was written takes so much on this host's disk, snapshots included; `[machine] layerQuota` bounds it. */
  layerBytes: number
  /** Bytes of its data disk; null if it has none. */
  dataDisk: number | null
  /** Blocks of the image that are here, of those that are not zero. */
  local: { blocks: number; of: number }
  /** Since the machine was created. `wireBytes` is what crossed the network, compressed. */
  fetched: { blocks: number; bytes: number; wireBytes: number }
  /** Time with a demand read pending on the network, since the machine was created. */
  waited: { seconds: number; longestMs: number; reads: number }
  /** Blocks of the image that are on their way or looked for, by what they are for. */
  waiting: { demand: number; readAhead: number; profile: number; fill: number }
  /** While it is attached: how far its boot is along the boot profile, if it has one, and what was read ahead beside it. */
  boot: BootStatus | null
  /** Set when the machine cannot be used: its error's code and message. */
  error?: { code: string; message: string }
}

export interface PeerStatus {
  peer: string
  rttMs: number | null
  rateBytesPerSecond: number | null
  servedBytes: number
  outstanding: number
  /** What this peer had from it since the daemon started, of the images of its machines and replications. */
  fetched: Transfer
}

/** `bytes` of blocks; `wireBytes` is what crossed the network, compressed, index included. */
export interface Transfer {
  blocks: number
  bytes: number
  wireBytes: number
}

export interface ReplicationStatus {
  appliance: string
  version: string
  image: string
  complete: boolean
  local: { blocks: number; of: number }
  /** Why it does not go on at the moment; it is tried again. */
  error?: { code: string; message: string }
}

export interface StatusResult {
  peer: string
  publisher: string
  addresses: string[]
  /** How others reach this peer, and the same in a sentence. */
  reachability: Reachability & { sentence: string }
  /** Those connected to. */
  peers: number
  /** What is known about those that blocks are exchanged with. */
  exchanging: PeerStatus[]
  machines: MachineStatus[]
  /** What was fetched of each image since the daemon started. */
  transfers: ({ image: string } & Transfer)[]
  replicating: ReplicationStatus[]
  /** `pinnedBytes` of it are never evicted: of images of local machines, replicated ones, and own releases. */
  pool: { blocks: number; bytes: number; pinnedBytes: number; quotaBytes: number | null }
}

/** From attach to the first block. */
export interface TraceResult {
  machine: string
  /** The shortest round trip to a replica on a link that was idle; null before one has answered. */
  rttMs: number | null
  /** In milliseconds since the attach, and in round trips; null where they say nothing (below 5 ms). */
  marks: { what: string; atMs: number; roundTrips: number | null; peer?: string }[]
  /** Null before the first block, or where nothing had to be fetched. */
  firstBlock: { ms: number; roundTrips: number | null } | null
  /** What a start may cost at most. */
  budgetRoundTrips: number
}

/** What this peer may take of its owner's line. Bytes a second; null for no limit. */
export type LimitResult = TrafficState

export interface FollowResult {
  alias: string
  appliance: string
}

export interface DoctorRow {
  check: string
  ok: boolean
  detail: string
  /** What to do; empty when all is well. */
  advice: string
}

export interface KeyResult {
  publisher: string
  /** Null when it is not here. */
  releaseKey: string | null
  /** Of the delegation from the root key to the release key; null without one. */
  sequence: number | null
  /** ISO 8601. */
  expires: string | null
  /** Whether the root key is here. */
  root: boolean
  /** Of `key export`. */
  file?: string
}

export interface Results {
  publish: PublishResult
  replicate: ReplicateResult
  'replicate-end': ReplicateEndResult
  attach: AttachResult
  detach: MachineResult
  remove: MachineResult
  snapshot: SnapshotResult & { note: string; taken: string }
  snapshots: SnapshotRow[]
  /** `left`: the snapshot of what the machine was before. */
  rollback: SnapshotResult & { left: string }
  discard: SnapshotResult
  export: ExportResult
  'export-web': WebExportResult
  releases: ReleaseRow[]
  gc: GcResult
  status: StatusResult
  trace: TraceResult
  limit: LimitResult
  follow: FollowResult
  doctor: DoctorRow[]
  'key-show': KeyResult
  'key-export': KeyResult
  'key-import': KeyResult
  'key-renew': KeyResult
  'key-rotate': KeyResult
}
