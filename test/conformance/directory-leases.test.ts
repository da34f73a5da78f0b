/** Eight real peers in one process, with TTLs of seconds: who is counted, who is not any more, and by whom. */

import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Share, SharerCount } from '../../src/directory/directory.ts'
import { DirectoryClient } from '../../src/directory/directory-client.ts'
import { type Lease, sealLease } from '../../src/directory/lease-record.ts'
import { MAX_LEASE_RECORD_BYTES } from '../../src/directory/limits.ts'
import { owned, TABLE } from '../../src/directory/messages.ts'
import { sealRecord } from '../../src/image/signed.ts'
import { systemClock } from '../../src/node/system.ts'
import { type Participant, startNetwork, until } from '../unit/directory/network.ts'
import { imageNumber } from '../unit/directory/support.ts'

const PEERS = 8
const TTL_MS = 3_000
/** Far longer than any test waits. */
const KEEP_TTL_MS = 600_000
const PUBLISHER = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'

const release = (version: string) => `${PUBLISHER}/grid@${version}`
const share = (version: string, values: Partial<Share> = {}): Share => ({
  release: release(version),
  image: imageNumber(1),
  running: true,
  keep: false,
  ...values
})

async function counted(peer: Participant, version: string, wanted: (count: SharerCount) => boolean) {
  let last: SharerCount | undefined
  const wait = until(`the count of ${version}`, async () => {
    last = await peer.directory.countSharers(release(version))
    return wanted(last)
  })
  await wait.catch(error => {
    throw new Error(`${error.message}; the last was ${JSON.stringify(last)}`)
  })
  return last!
}

describe('a network of eight peers', () => {
  let peers: Participant[]
  beforeAll(async () => {
    peers = await startNetwork(PEERS, { sharerTtlMs: TTL_MS, keepTtlMs: KEEP_TTL_MS })
  })
  afterAll(async () => {
    await Promise.all(peers.map(peer => peer.stop()))
  })

  test('a release that nobody uses has no sharers, and everybody says so', async () => {
    const count = await peers[0]!.directory.countSharers(release('nobody'))
    expect(count).toMatchObject({ count: 0, exact: true, inUseUntilMs: 0, holders: { asked: PEERS, answered: PEERS } })
    expect(count.witnesses).toHaveLength(PEERS)
  })

  test('the count rises with every sharer, falls when one gives up, and stays while leases are renewed', async () => {
    for (const [i, peer] of peers.slice(0, 3).entries()) {
      peer.directory.shareReleases([share('v1')])
      await counted(peers[7]!, 'v1', ({ count, exact }) => count === i + 1 && exact)
    }
    const now = await counted(peers[5]!, 'v1', ({ count }) => count === 3)
    expect(now.inUseUntilMs).toBeGreaterThan(Date.now())
    expect(now.inUseUntilMs).toBeLessThanOrEqual(Date.now() + TTL_MS)
    const started = Date.now()
    while (Date.now() - started < 2 * TTL_MS) {
      expect((await peers[6]!.directory.countSharers(release('v1'))).count).toBe(3)
      await new Promise(resolve => setTimeout(resolve, 100))
    }
    // Who gives a lease up that would have held for long is gone at once.
    peers[1]!.directory.shareReleases([share('v1', { keep: true })])
    await counted(peers[7]!, 'v1', ({ inUseUntilMs }) => inUseUntilMs > Date.now() + KEEP_TTL_MS / 2)
    peers[1]!.directory.shareReleases([])
    await counted(peers[7]!, 'v1', ({ count }) => count === 2)
  })

  test('one peer under several machines counts once; another version has a count of its own', async () => {
    peers[2]!.directory.shareReleases([share('v1'), share('v2', { keep: true })])
    await counted(peers[4]!, 'v2', ({ count }) => count === 1)
    await counted(peers[4]!, 'v1', ({ count }) => count === 2)
    const { inUseUntilMs } = await peers[4]!.directory.countSharers(release('v2'))
    expect(inUseUntilMs).toBeGreaterThan(Date.now() + KEEP_TTL_MS / 2)
    peers[2]!.directory.shareReleases([])
    await counted(peers[4]!, 'v2', ({ count, inUseUntilMs }) => count === 0 && inUseUntilMs === 0)
  })

  test('a sharer that is gone without a word is no longer counted after one TTL', async () => {
    peers[7]!.directory.shareReleases([share('v3')])
    await counted(peers[0]!, 'v3', ({ count }) => count === 1)
    await peers[7]!.stop()
    const died = Date.now()
    await until('a TTL to pass', () => Date.now() > died + TTL_MS)
    expect(await peers[0]!.directory.countSharers(release('v3'))).toMatchObject({ count: 0, inUseUntilMs: 0 })
  })

  test('the count survives the death of all holders but a majority; with fewer there is none', async () => {
    // Seven are left of eight.
    peers[0]!.directory.shareReleases([share('v4', { keep: true })])
    await counted(peers[1]!, 'v4', ({ count }) => count === 1)
    await Promise.all([peers[6]!.stop(), peers[5]!.stop()])
    await counted(peers[1]!, 'v4', ({ count, exact }) => count === 1 && exact)
    await Promise.all([peers[4]!.stop(), peers[3]!.stop()])
    const few = await counted(peers[1]!, 'v4', ({ count }) => count === null)
    expect(few.holders.answered * 2).toBeLessThanOrEqual(few.holders.asked)
    // That it is in use everybody says who knows it.
    expect(few.inUseUntilMs).toBeGreaterThan(Date.now())
  })
})

describe('a holder over the wire', () => {
  let peers: Participant[]
  let pseudonym: PrivateKey
  beforeAll(async () => {
    peers = await startNetwork(2)
    pseudonym = await generateKeyPair('Ed25519')
  })
  afterAll(async () => {
    await Promise.all(peers.map(peer => peer.stop()))
  })

  async function put(record: Uint8Array): Promise<string | undefined> {
    const client = new DirectoryClient({ network: peers[0]!.peer, clock: systemClock })
    const request = { puts: [{ table: TABLE.sharers, record: owned(record) }] }
    const { response } = await client.ask({ peer: peers[1]!.id, addresses: [] }, request)
    return response.outcomes[0]
  }
  const lease = (values: Partial<Lease> = {}): Lease => ({
    release: release('v1'),
    sequence: 1,
    issuedMs: Date.now(),
    runningUntilMs: Date.now() + 60_000,
    keepUntilMs: 0,
    givenBack: false,
    ...values
  })

  test('keeps what is right and says why it does not keep the rest', async () => {
    expect(await put(await sealLease(lease(), pseudonym))).toBe('kept')
    const yesterday = Date.now() - 86_400_000
    const expired = lease({ release: release('v2'), issuedMs: yesterday, runningUntilMs: yesterday + 1000 })
    expect(await put(await sealLease(expired, pseudonym))).toBe('expired')
    const future = lease({ release: release('v2'), issuedMs: Date.now() + 86_400_000, runningUntilMs: 2 ** 50 })
    expect(await put(await sealLease(future, pseudonym))).toBe('future')
    const bytes = await sealLease(lease({ release: release('v2') }), pseudonym)
    bytes[bytes.length - 1]! ^= 1
    expect(await put(bytes)).toBe('SIGNATURE_INVALID')
    expect(await put(await sealRecord('rowan-replica', new Uint8Array(9), pseudonym))).toBe('RECORD_INVALID')
    expect(await put(await sealRecord('rowan-lease', new Uint8Array(MAX_LEASE_RECORD_BYTES), pseudonym))).toBe(
      'RECORD_INVALID'
    )
    const { count } = await peers[1]!.directory.countSharers(release('v2'))
    expect(count).toBe(0)
  })

  test('has a lease that came in a greeting', async () => {
    await peers[1]!.directory.takeLease(await sealLease(lease({ release: release('greeted') }), pseudonym))
    await counted(peers[0]!, 'greeted', ({ count }) => count === 1)
  })
})
