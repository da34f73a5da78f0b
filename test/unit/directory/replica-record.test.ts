import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { beforeAll, describe, expect, test } from 'vitest'
import { MAX_ADDRESSES_PER_REPLICA, MAX_REPLICA_RECORD_BYTES } from '../../../src/directory/limits.ts'
import { ReplicaPayload } from '../../../src/directory/proto/directory.js'
import { openReplica, type ReplicaRecord, sealReplica } from '../../../src/directory/replica-record.ts'
import { sealRecord } from '../../../src/image/signed.ts'
import { imageNumber, NOW } from './support.ts'

let key: PrivateKey
let peer: string
beforeAll(async () => {
  key = await generateKeyPair('Ed25519')
  peer = key.publicKey.toString()
})

const record = (values: Partial<ReplicaRecord> = {}): ReplicaRecord => ({
  image: imageNumber(7),
  peer,
  addresses: [`/ip4/1.2.3.4/tcp/5/p2p/${peer}`, `/ip6/2a00::1/tcp/5/p2p/${peer}`],
  complete: true,
  sequence: 42,
  expiresMs: NOW,
  ...values
})

/** A payload that sealReplica would not make, properly signed. */
async function forged(values: Partial<ReplicaPayload>): Promise<Uint8Array> {
  const payload: ReplicaPayload = {
    image: new Uint8Array(32),
    peer,
    addresses: ['/ip4/1.2.3.4/tcp/5'],
    complete: true,
    sequence: 1,
    expiresMs: NOW,
    ...values
  }
  return sealRecord('rowan-replica', ReplicaPayload.encode(payload), key)
}

/** The sequence number 2^53, which the encoder would not write. */
async function forgedHugeSequence(): Promise<Uint8Array> {
  const start = ReplicaPayload.encode({
    image: new Uint8Array(32),
    peer,
    addresses: ['/ip4/1.2.3.4/tcp/5'],
    complete: true,
    sequence: 0,
    expiresMs: 0
  })
  const sequence = [40, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]
  return sealRecord('rowan-replica', Buffer.concat([start, Uint8Array.from(sequence)]), key)
}

describe('a replica record', () => {
  test('comes out as it went in', async () => {
    expect(await openReplica(await sealReplica(record(), key))).toEqual(record())
  })

  test('leaves out addresses that nobody could use, doubles, and those beyond the limit', async () => {
    const many = Array.from({ length: 20 }, (_, i) => `/ip4/1.2.3.4/tcp/${i + 1}`)
    const opened = await openReplica(await sealReplica(record({ addresses: ['/unix/x', many[0]!, ...many] }), key))
    expect(opened.addresses).toEqual(many.slice(0, MAX_ADDRESSES_PER_REPLICA).map(text => `${text}/p2p/${peer}`))
  })

  test('at its largest is within its bound', async () => {
    const addresses = Array.from({ length: 8 }, (_, i) => `/dns4/${'a'.repeat(63)}.${'b'.repeat(63)}.c${i}/tcp/65535`)
    const sealed = await sealReplica(record({ addresses, sequence: Number.MAX_SAFE_INTEGER }), key)
    expect((await openReplica(sealed)).addresses).toHaveLength(8)
    expect(sealed.byteLength).toBeLessThan(MAX_REPLICA_RECORD_BYTES)
  })

  test.each<[string, () => Promise<Uint8Array>, string]>([
    [
      'of another signer',
      () => forged({ peer: '12D3KooWPv9JYcRtUoZt8WoKauZw8GqQw3m8FVsMRe6qZJnAP2vi' }),
      'SIGNATURE_INVALID'
    ],
    ['of another kind', async () => sealRecord('rowan-lease', new Uint8Array(3), key), 'RECORD_INVALID'],
    ['with a short image id', () => forged({ image: new Uint8Array(31) }), 'RECORD_INVALID'],
    ['without addresses', () => forged({ addresses: [] }), 'RECORD_INVALID'],
    ['with too many addresses', () => forged({ addresses: Array(9).fill('/ip4/1.2.3.4/tcp/5') }), 'RECORD_INVALID'],
    ['with a relayed address', () => forged({ addresses: ['/ip4/1.2.3.4/tcp/5/p2p-circuit'] }), 'RECORD_INVALID'],
    [
      'with a peer behind an address',
      () => forged({ addresses: [`/ip4/1.2.3.4/tcp/5/p2p/${peer}`] }),
      'RECORD_INVALID'
    ],
    ['with a number that cannot be counted', forgedHugeSequence, 'RECORD_INVALID'],
    [
      'with a payload that cannot be read',
      async () => sealRecord('rowan-replica', Uint8Array.of(255), key),
      'RECORD_INVALID'
    ],
    ['too long', async () => new Uint8Array(MAX_REPLICA_RECORD_BYTES + 1), 'RECORD_INVALID']
  ])('%s is refused', async (_what, make, code) => {
    await expect(openReplica(await make())).rejects.toMatchObject({ code })
  })

  test('with a changed bit is refused', async () => {
    const sealed = await sealReplica(record(), key)
    sealed[sealed.length - 3]! ^= 1
    await expect(openReplica(sealed)).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' })
  })
})
