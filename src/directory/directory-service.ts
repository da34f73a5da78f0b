/**
 * The serving side of /rowan/directory/1.0.0: answers one request for each stream out of this peer's holder.
 *
 * The way of a put: open (signature, chain, bounds), let the holder judge, write down what changed, dial back. The
 * answer does not wait for the dial-back: a replica's record is kept as unverified until its address was reached, or,
 * where such records have no room and when somebody else than its signer brought it, not before.
 */

import type { Connection, Stream } from '@libp2p/interface'
import { PROTOCOL } from '../cluster.ts'
import { withDeadline } from '../deadline.ts'
import type { Clock, Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { toHex } from '../image/hash.ts'
import { openLatest } from '../image/release.ts'
import { crowdOf, type Reach, reachMet } from './addresses.ts'
import type { Announced, DialBack } from './dial-back.ts'
import type { DirectoryNetwork } from './directory-network.ts'
import { latestRecordOf } from './held-latest.ts'
import type { LeaseEntry } from './held-leases.ts'
import type { HeldReplica, ReplicaEntry } from './held-replicas.ts'
import type { Holder } from './holder.ts'
import type { HolderStore } from './holder-store.ts'
import type { PutOutcome, PutResult } from './holder-types.ts'
import { openLease } from './lease-record.ts'
import {
  EXPIRY_SWEEP_MS,
  MAX_MESSAGE_BYTES,
  MAX_METERED_PEERS,
  MAX_REQUESTS_AT_ONCE,
  MAX_REQUESTS_AT_ONCE_PER_NETWORK,
  MAX_REQUESTS_AT_ONCE_PER_PEER,
  MAX_STREAMS_PER_CONNECTION,
  REQUESTS_PER_PEER_BURST,
  REQUESTS_PER_PEER_PER_SECOND,
  SERVE_TIMEOUT_MS
} from './limits.ts'
import {
  type DirectoryRequest,
  type DirectoryResponse,
  decodeRequest,
  digestOf,
  encodeResponse,
  messagesOf,
  owned,
  packHashes,
  type ReplicaFound,
  readMessage,
  type SharersAnswer,
  STATUS,
  TABLE
} from './messages.ts'
import { RateMeter } from './rate-meter.ts'
import { openReplica } from './replica-record.ts'
import { HASH_SPAN, leaseHash } from './sharer-sketch.ts'

/** What came of a put, as the answer says it: the holder's word, `pending` a dial-back, or why it was not opened. */
export type ServedOutcome = PutOutcome | 'pending' | 'RECORD_INVALID' | 'SIGNATURE_INVALID'

/** Who asks, and how it was met. */
export interface Asker {
  peer: string
  met: Reach
}

/** What is left of a message for its frame. */
const FRAME_BYTES = 2048
/** What a replica's record costs in an answer beside its bytes. */
const REPLICA_FRAME_BYTES = 16

export interface DirectoryServiceComponents {
  network: DirectoryNetwork
  holder: Holder
  store: HolderStore
  dialBack: DialBack
  clock: Clock
  log: Log
}

export class DirectoryService {
  readonly #components: DirectoryServiceComponents
  readonly #self: string
  readonly #meter = new RateMeter(
    { burst: REQUESTS_PER_PEER_BURST, perSecond: REQUESTS_PER_PEER_PER_SECOND },
    MAX_METERED_PEERS
  )
  readonly #stopped = new AbortController()
  #atOnce = 0
  /** Of `#atOnce`, by the peer that asks, and by its network. */
  readonly #atOnceOf = new Map<string, number>()
  #cancelSweep: () => void = () => undefined

  constructor(components: DirectoryServiceComponents) {
    this.#components = components
    this.#self = components.network.peerId.toString()
  }

  async start(): Promise<void> {
    const { network, store, holder, clock } = this.#components
    await store.load(holder, clock.now())
    this.#sweepLater()
    await network.handle(PROTOCOL.directory, (stream, connection) => this.#serve(stream, connection), {
      maxInboundStreams: MAX_STREAMS_PER_CONNECTION
    })
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    this.#cancelSweep()
    this.#components.dialBack.stop()
    await this.#components.network.unhandle(PROTOCOL.directory)
    await this.#components.store.awake(this.#components.clock.now())
  }

  /** Answers a request; this peer's own questions come this way too. */
  async answer(request: DirectoryRequest, asker: Asker): Promise<DirectoryResponse> {
    const response: DirectoryResponse = { status: STATUS.done, outcomes: [] }
    for (const put of request.puts) {
      response.outcomes.push(
        await (put.table === TABLE.latest
          ? this.#putLatest(put.record)
          : put.table === TABLE.sharers
            ? this.keepLease(put.record)
            : this.#putReplica(put.record, asker))
      )
    }
    const room = { bytes: MAX_MESSAGE_BYTES - FRAME_BYTES }
    if (request.latest !== undefined) response.latest = this.#getLatest(request.latest, asker, room)
    if (request.sharers !== undefined) response.sharers = await this.#getSharers(request.sharers)
    if (request.replicas !== undefined) {
      const { holder, clock } = this.#components
      const { replicas, heldSinceMs } = holder.getReplicas(toHex(request.replicas.image), clock.now())
      response.replicas = { replicas: fitting(replicas, asker, room), heldSinceMs: heldSinceMs ?? 0 }
    }
    return response
  }

  /** Takes in a lease, whoever brings it. */
  async keepLease(bytes: Uint8Array): Promise<ServedOutcome> {
    try {
      const { release, ...lease } = await openLease(bytes)
      const hash = leaseHash(lease.signer, release)
      const entry: LeaseEntry = { table: 'sharers', key: release, hash, ...lease }
      return await this.#keep(this.#components.holder.put(entry, this.#components.clock.now()))
    } catch (error) {
      return refusalOf(error)
    }
  }

  async #getSharers(query: NonNullable<DirectoryRequest['sharers']>): Promise<SharersAnswer> {
    const { holder, store, clock } = this.#components
    const now = clock.now()
    const { found, changes } = holder.getSharers(query.release, now, query)
    await store.apply(changes)
    return {
      hashes: packHashes(found.hashes),
      threshold: Math.floor(found.threshold * HASH_SPAN),
      inUseForMs: found.inUseUntilMs === 0 ? 0 : Math.ceil(found.inUseUntilMs - now),
      tenureMs: Math.max(0, Math.floor(found.tenureMs)),
      all: found.all
    }
  }

  #getLatest(query: NonNullable<DirectoryRequest['latest']>, asker: Asker, room: { bytes: number }) {
    const { holder, clock } = this.#components
    const { held, replicas } = holder.getLatest(query.appliance, clock.now())
    const hasConflict = held?.conflicting !== undefined
    const isSame = held !== undefined && !hasConflict && held.digest === Buffer.from(query.knownDigest).toString('hex')
    const chosen = query.second ? held?.conflicting : held?.bytes
    const record = owned(isSame || chosen === undefined ? new Uint8Array(0) : chosen)
    room.bytes -= record.byteLength
    return {
      record,
      same: isSame,
      conflict: hasConflict,
      replicas: fitting(replicas, asker, room),
      heldSinceMs: held?.heldSinceMs ?? 0
    }
  }

  async #putLatest(record: Uint8Array): Promise<ServedOutcome> {
    try {
      const latest = await openLatest(record)
      return await this.#keep(this.#components.holder.put(latestRecordOf(latest), this.#components.clock.now()))
    } catch (error) {
      return refusalOf(error)
    }
  }

  async #putReplica(bytes: Uint8Array, asker: Asker): Promise<ServedOutcome> {
    const { dialBack, holder, clock } = this.#components
    try {
      const record = await openReplica(bytes)
      const announced = { peer: record.peer, addresses: record.addresses, met: asker.met, asker: asker.peer }
      // This peer knows where it is itself.
      const isReached = record.peer === this.#self || dialBack.known(announced) === true
      const entry: ReplicaEntry = {
        table: 'replicas',
        key: record.image,
        signer: record.peer,
        sequence: record.sequence,
        expiresMs: record.expiresMs,
        digest: digestOf(bytes),
        complete: record.complete,
        bytes: owned(bytes),
        verified: isReached,
        met: asker.met
      }
      const isBySigner = record.peer === asker.peer
      const outcome =
        isBySigner || isReached ? await this.#keep(holder.put(entry, clock.now())) : ('unverified' as const)
      if (isReached || (outcome !== 'kept' && outcome !== 'unverified')) return outcome
      this.#verifyLater(entry, announced)
      return outcome === 'kept' ? 'kept' : 'pending'
    } catch (error) {
      return refusalOf(error)
    }
  }

  /** Dials back, then counts the record as verified, or keeps it now. Nobody waits for it. */
  #verifyLater(entry: ReplicaEntry, announced: Announced): void {
    const { dialBack, holder, clock, log } = this.#components
    void dialBack
      .check(announced)
      .then(async isReached => {
        if (!isReached || this.#stopped.signal.aborted) return
        const changes = holder.markVerified(entry.key, entry.signer, entry.digest)
        if (changes.length > 0) await this.#components.store.apply(changes)
        else await this.#keep(holder.put({ ...entry, verified: true }, clock.now()))
      })
      .catch(error => log.warn('a dial-back went wrong', { peer: entry.signer, error: String(error) }))
  }

  async #keep(result: PutResult): Promise<PutOutcome> {
    await this.#components.store.apply(result.changes)
    return result.outcome
  }

  async #serve(stream: Stream, connection: Connection): Promise<void> {
    const { clock, log } = this.#components
    const peer = connection.remotePeer.toString()
    const network = crowdOf(connection.remoteAddr.toString())
    const isBusy = this.#isBusyFor(peer, network) || !this.#meter.take(peer, clock.monotonicMs())
    this.#count(peer, network, 1)
    try {
      await withDeadline(clock, SERVE_TIMEOUT_MS, this.#stopped.signal, 'TIMEOUT_RESPONSE', async signal => {
        const messages = messagesOf(stream)
        const response = isBusy
          ? { status: STATUS.busy, outcomes: [] }
          : await this.#answerTo(await readMessage(messages, signal), peer, connection)
        await messages.write(encodeResponse(response), { signal })
        await stream.close({ signal })
      })
    } catch (cause) {
      const error = asRowanError(cause, 'PEER_GONE')
      log.debug('a directory request was not answered', { peer, code: error.code, message: error.message })
      stream.abort(error)
    } finally {
      this.#count(peer, network, -1)
    }
  }

  #isBusyFor(peer: string, network: string | undefined): boolean {
    const of = (name: string | undefined) => (name === undefined ? 0 : (this.#atOnceOf.get(name) ?? 0))
    return (
      this.#atOnce >= MAX_REQUESTS_AT_ONCE ||
      of(peer) >= MAX_REQUESTS_AT_ONCE_PER_PEER ||
      of(network) >= MAX_REQUESTS_AT_ONCE_PER_NETWORK
    )
  }

  #count(peer: string, network: string | undefined, change: 1 | -1): void {
    this.#atOnce += change
    for (const name of network === undefined ? [peer] : [peer, network]) {
      const own = (this.#atOnceOf.get(name) ?? 0) + change
      if (own === 0) this.#atOnceOf.delete(name)
      else this.#atOnceOf.set(name, own)
    }
  }

  async #answerTo(bytes: Uint8Array, peer: string, connection: Connection): Promise<DirectoryResponse> {
    let request: DirectoryRequest
    try {
      request = decodeRequest(bytes)
    } catch (error) {
      this.#components.log.debug('a directory request is invalid', { peer, error: String(error) })
      return { status: STATUS.invalid, outcomes: [] }
    }
    return this.answer(request, { peer, met: reachMet(connection.remoteAddr.toString()) })
  }

  #sweepLater(): void {
    const { holder, store, clock } = this.#components
    const timer = clock.after(EXPIRY_SWEEP_MS, () => {
      const now = clock.now()
      // `apply` and `awake` never reject: they log what they could not write.
      void store.apply(holder.expire(now)).then(() => store.awake(now))
      this.#sweepLater()
    })
    this.#cancelSweep = () => timer.cancel()
  }
}

/** As many as there is room for in the answer, without the asker's own. */
function fitting(replicas: HeldReplica[], asker: Asker, room: { bytes: number }): ReplicaFound[] {
  const chosen: ReplicaFound[] = []
  for (const held of replicas) {
    const bytes = held.bytes.byteLength + REPLICA_FRAME_BYTES
    if (held.signer === asker.peer || bytes > room.bytes) continue
    room.bytes -= bytes
    chosen.push({ record: owned(held.bytes), verified: held.verified, met: held.met })
  }
  return chosen
}

function refusalOf(error: unknown): 'RECORD_INVALID' | 'SIGNATURE_INVALID' {
  if (error instanceof RowanError && (error.code === 'RECORD_INVALID' || error.code === 'SIGNATURE_INVALID')) {
    return error.code
  }
  throw error
}
