/**
 * The messages of /rowan/directory/1.0.0, and every bound that can be checked without knowing what they mean.
 *
 * A stream carries one request and one answer, each behind its length. What is signed inside is judged by image/ and
 * replica-record.ts; what is asked for by directory-service.ts.
 */

import type { Stream } from '@libp2p/interface'
import { type LengthPrefixedStream, lpStream } from '@libp2p/utils'
import { RowanError } from '../errors.ts'
import { sha256, toHex } from '../image/hash.ts'
import { checkRelease } from './lease-record.ts'
import {
  MAX_LATEST_RECORD_BYTES,
  MAX_LEASES_PER_KEY,
  MAX_MESSAGE_BYTES,
  MAX_PUTS_PER_REQUEST,
  MAX_REPLICA_RECORD_BYTES,
  REPLICAS_PER_ANSWER
} from './limits.ts'
import { DirectoryRequest, DirectoryResponse, type ReplicaFound, type SharersAnswer } from './proto/directory.js'
import { HASH_BYTES, HASH_SPAN } from './sharer-sketch.ts'

export type { DirectoryRequest, DirectoryResponse, ReplicaFound, SharersAnswer } from './proto/directory.js'

export const TABLE = { latest: 1, replicas: 2, sharers: 3 } as const
export const STATUS = { done: 0, busy: 1, invalid: 2 } as const

const MAX_APPLIANCE_CHARACTERS = 256
const MAX_OUTCOME_CHARACTERS = 64
/** No holder knows of more time than this, forwards or back. */
const MAX_SPAN_MS = 1000 * 365 * 24 * 3_600_000
const KNOWN_TABLES: ReadonlySet<number> = new Set(Object.values(TABLE))

/** `bytes` in memory of their own: what came in a message is a view into it. */
export function owned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes)
}

/** Tells two sealed records apart, whatever they say. */
export function digestOf(record: Uint8Array): string {
  return toHex(sha256(record))
}

export function encodeRequest(request: Partial<DirectoryRequest>): Uint8Array {
  return DirectoryRequest.encode({ puts: [], ...request })
}

/** Throws WIRE_INVALID, and nothing else. */
export function decodeRequest(bytes: Uint8Array): DirectoryRequest {
  const request = decoded('request', bytes, () =>
    DirectoryRequest.decode(bytes, { limits: { puts: MAX_PUTS_PER_REQUEST } })
  )
  for (const put of request.puts) {
    if (!KNOWN_TABLES.has(put.table)) throw invalid(`a put in the table ${put.table}`)
    atMost('bytes of a record', put.record.byteLength, MAX_LATEST_RECORD_BYTES)
  }
  const { latest, replicas, sharers } = request
  if (sharers !== undefined) checkQuery(sharers.release)
  if (latest !== undefined) {
    atMost('characters of an appliance', latest.appliance.length, MAX_APPLIANCE_CHARACTERS)
    emptyOrHash('digest', latest.knownDigest)
  }
  if (replicas !== undefined && replicas.image.byteLength !== 32) {
    throw invalid(`an image id of ${replicas.image.byteLength} bytes`)
  }
  return request
}

export function encodeResponse(response: DirectoryResponse): Uint8Array {
  return DirectoryResponse.encode(response)
}

/** Throws WIRE_INVALID, and nothing else. */
export function decodeResponse(bytes: Uint8Array): DirectoryResponse {
  const limits = {
    outcomes: MAX_PUTS_PER_REQUEST,
    latest: { replicas: REPLICAS_PER_ANSWER },
    replicas: { replicas: REPLICAS_PER_ANSWER }
  }
  const response = decoded('answer', bytes, () => DirectoryResponse.decode(bytes, { limits }))
  for (const outcome of response.outcomes) atMost('characters of an outcome', outcome.length, MAX_OUTCOME_CHARACTERS)
  atMost('bytes of a record', response.latest?.record.byteLength ?? 0, MAX_LATEST_RECORD_BYTES)
  checkReplicas(response.latest?.replicas ?? [])
  checkReplicas(response.replicas?.replicas ?? [])
  if (response.sharers !== undefined) checkSharers(response.sharers)
  return response
}

/** Hashes as they travel: ascending, HASH_BYTES each. */
export function packHashes(hashes: readonly number[]): Uint8Array<ArrayBuffer> {
  const packed = Buffer.from(new ArrayBuffer(hashes.length * HASH_BYTES))
  for (const [i, hash] of hashes.entries()) packed.writeUIntBE(hash * HASH_SPAN, i * HASH_BYTES, HASH_BYTES)
  return owned(packed)
}

/** The hashes of an answer that was decoded, ascending, each in [0, 1). */
export function hashesOf({ hashes }: SharersAnswer): number[] {
  const packed = Buffer.from(hashes.buffer, hashes.byteOffset, hashes.byteLength)
  const count = packed.byteLength / HASH_BYTES
  return Array.from({ length: count }, (_, i) => packed.readUIntBE(i * HASH_BYTES, HASH_BYTES) / HASH_SPAN)
}

/** The stream, cut into messages. */
export function messagesOf(stream: Stream): LengthPrefixedStream<Stream> {
  return lpStream(stream, { maxDataLength: MAX_MESSAGE_BYTES, maxBufferSize: MAX_MESSAGE_BYTES + 16 })
}

/** The next message of a stream. Throws WIRE_INVALID for one that is longer than MAX_MESSAGE_BYTES. */
export async function readMessage(messages: LengthPrefixedStream<Stream>, signal: AbortSignal): Promise<Uint8Array> {
  try {
    return (await messages.read({ signal })).subarray()
  } catch (cause) {
    if (cause instanceof Error && /^InvalidDataLength|^InvalidMessageLength/.test(cause.name)) {
      throw new RowanError('WIRE_INVALID', `a directory message announces a length beyond ${MAX_MESSAGE_BYTES}`, {
        cause
      })
    }
    throw cause
  }
}

function checkQuery(release: string): void {
  try {
    checkRelease(release)
  } catch (cause) {
    throw new RowanError('WIRE_INVALID', 'a directory message asks for what is no release', { cause })
  }
}

function checkSharers(answer: SharersAnswer): void {
  atMost('bytes of hashes', answer.hashes.byteLength, MAX_LEASES_PER_KEY * HASH_BYTES)
  if (answer.hashes.byteLength % HASH_BYTES !== 0) throw invalid(`${answer.hashes.byteLength} bytes of hashes`)
  const hashes = hashesOf(answer)
  if (hashes.some((hash, i) => i > 0 && hash <= hashes[i - 1]!)) throw invalid('hashes that do not ascend')
  atMost('as a threshold', answer.threshold, HASH_SPAN)
  atMost('ms of use', answer.inUseForMs, MAX_SPAN_MS)
  atMost('ms of tenure', answer.tenureMs, MAX_SPAN_MS)
}

function checkReplicas(replicas: ReplicaFound[]): void {
  for (const found of replicas) {
    atMost('bytes of a replica record', found.record.byteLength, MAX_REPLICA_RECORD_BYTES)
    if (found.met > 2) throw invalid(`a way of meeting ${found.met}`)
  }
}

function decoded<T>(what: string, bytes: Uint8Array, decode: () => T): T {
  atMost(`bytes of an ${what}`, bytes.byteLength, MAX_MESSAGE_BYTES)
  try {
    return decode()
  } catch (cause) {
    throw new RowanError('WIRE_INVALID', `a directory ${what} cannot be read`, { cause })
  }
}

function emptyOrHash(what: string, bytes: Uint8Array): void {
  if (bytes.byteLength !== 0 && bytes.byteLength !== 32) throw invalid(`a ${what} of ${bytes.byteLength} bytes`)
}

function atMost(what: string, count: number, limit: number): void {
  if (count > limit) throw invalid(`${count} ${what}; the limit is ${limit}`)
}

function invalid(what: string): RowanError {
  return new RowanError('WIRE_INVALID', `a directory message has ${what}`)
}
