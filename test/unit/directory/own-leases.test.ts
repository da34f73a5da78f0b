import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Announcer } from '../../../src/directory/announcer.ts'
import { Holder } from '../../../src/directory/holder.ts'
import type { HolderCircle, Put } from '../../../src/directory/holder-circle.ts'
import { LeasePlan, type LeaseTask, type Share } from '../../../src/directory/lease-plan.ts'
import { type Lease, openLease } from '../../../src/directory/lease-record.ts'
import { MAX_LEASES_PER_KEY } from '../../../src/directory/limits.ts'
import { OwnLeases } from '../../../src/directory/own-leases.ts'
import { Pseudonyms } from '../../../src/directory/pseudonyms.ts'
import { HASH_SPAN, leaseHash } from '../../../src/directory/sharer-sketch.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { waitUntil } from '../../tools/wait.ts'
import { DAY_MS, FakeClock, HOUR_MS, imageNumber, leaseEntry, RELEASE, recordingLog, seeded } from './support.ts'

const TTLS = { runningTtlMs: HOUR_MS / 2, keepTtlMs: 60 * DAY_MS }
const PEERS = Array.from({ length: 20 }, (_, i) => ({ peer: `holder-${i}`, addresses: [] }))
const share = (values: Partial<Share> = {}): Share => ({
  release: RELEASE,
  image: imageNumber(1),
  running: true,
  keep: true,
  ...values
})

let folder: string
let catalog: Catalog
let secret: Ed25519PrivateKey
const log = recordingLog()
/** Leases that are being put, or asked about. */
let underWay = 0

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rowan-leases-'))
  catalog = await Catalog.open(folder)
  secret = await generateKeyPair('Ed25519')
})
afterEach(async () => {
  await catalog.close()
  await rm(folder, { recursive: true, force: true })
})

/** Twenty holders on one clock, each with its real table; the wire and routing are left out. */
class Holders {
  readonly clock: FakeClock
  readonly holders = new Map(
    PEERS.map(({ peer }) => [peer, new Holder({ random: seeded(1) }, { quotaBytes: 2 ** 26 })])
  )
  readonly puts: { peer: string; lease: Lease & { signer: string } }[] = []
  readonly questions: string[] = []
  readonly down = new Set<string>()
  circle = PEERS

  constructor(clock: FakeClock) {
    this.clock = clock
  }

  get face(): Pick<HolderCircle, 'of' | 'putTo' | 'ask' | 'signal'> {
    const putTo: HolderCircle['putTo'] = async (peers, put, _signal, also) => {
      const outcomes: string[] = []
      for (const holder of peers) {
        if (this.down.has(holder.peer)) continue
        outcomes.push(await this.#put(holder.peer, put))
        await also?.answered(holder, this.#answer(holder.peer), new AbortController().signal)
      }
      const isKept = (outcome: string) => ['kept', 'counted', 'known', 'withdrawn', 'older'].includes(outcome)
      const refused = outcomes.filter(outcome => !isKept(outcome)).map(outcome => `x: ${outcome}`)
      return { asked: peers.length, kept: outcomes.filter(isKept).length, refused }
    }
    return {
      of: async () => this.circle,
      putTo,
      ask: async ({ peer }, request) => {
        if (this.down.has(peer)) throw new Error('gone')
        for (const put of request.puts ?? []) await this.#put(peer, put)
        if (request.sharers !== undefined) this.questions.push(peer)
        return this.#answer(peer)
      },
      signal: parent => parent ?? new AbortController().signal
    }
  }

  sharersAt(peer: string): number {
    return this.holders.get(peer)!.getSharers(RELEASE, this.clock.now()).found.hashes.length
  }

  /** Every holder is full of leases with hashes up to `top`, for a day. */
  crowd(top: number): void {
    const times = { issuedMs: this.clock.now(), runningUntilMs: this.clock.now() + DAY_MS }
    for (const holder of this.holders.values()) {
      for (let i = 0; i < MAX_LEASES_PER_KEY; i++) {
        const hash = (i / MAX_LEASES_PER_KEY) * top
        holder.put(leaseEntry({ signer: `crowd-${i}`, hash, ...times }), this.clock.now())
      }
    }
  }

  async #put(peer: string, { record }: Put): Promise<string> {
    const lease = await openLease(record)
    this.puts.push({ peer, lease })
    const { release: key, ...rest } = lease
    const entry = { table: 'sharers' as const, key, hash: leaseHash(lease.signer, key), ...rest }
    return this.holders.get(peer)!.put(entry, this.clock.now()).outcome
  }

  #answer(peer: string) {
    const { found } = this.holders.get(peer)!.getSharers(RELEASE, this.clock.now())
    const threshold = Math.floor(found.threshold * HASH_SPAN)
    const sharers = { hashes: new Uint8Array(0), threshold, inUseForMs: 0, tenureMs: 0, all: found.all }
    return { response: { status: 0, outcomes: [], sharers }, met: 2 as const }
  }
}

/** @param shares - what machines use when the peer starts */
async function start(holders: Holders, shares: Share[] = [], replicas: { peer: string; addresses: string[] }[] = []) {
  const random = seeded(5)
  const plan = new LeasePlan({ random }, TTLS)
  const { clock } = holders
  const parts = { circle: holders.face, plan, pseudonyms: new Pseudonyms(secret), replicas: () => replicas }
  const leases = new OwnLeases({ ...parts, catalog, clock, random, log }, TTLS)
  plan.share(shares, clock.monotonicMs())
  await leases.start()
  const announce = async (task: LeaseTask, signal: AbortSignal) => {
    underWay++
    try {
      return await leases.run(task, signal)
    } finally {
      underWay--
    }
  }
  const announcer = new Announcer({ plan, announce, clock, log })
  announcer.start()
  const use = async (shares: Share[]) => {
    plan.share(shares, clock.monotonicMs())
    announcer.wake()
    await until(() => underWay === 0)
  }
  return { plan, leases, announcer, use }
}

/** Signing and the catalog take real time. */
async function until(condition: () => boolean): Promise<void> {
  await waitUntil('what was to happen', condition, { pollMs: 1 })
}

/** Time in steps short enough that what a renewal does is done before the next. */
async function pass(clock: FakeClock, ms: number): Promise<void> {
  for (let at = 0; at < ms; at += 60_000) {
    await clock.advance(60_000)
    await until(() => underWay === 0)
  }
}

describe('a peer that uses a release', () => {
  test('has a lease at all holders, under one name that is not its own, and follows when they change', async () => {
    const holders = new Holders(new FakeClock())
    holders.circle = PEERS.slice(0, 15)
    const { use, announcer } = await start(holders)
    await use([share()])
    await until(() => holders.puts.length === 15)
    const signers = new Set(holders.puts.map(({ lease }) => lease.signer))
    expect(signers.size).toBe(1)
    expect(signers.has(secret.publicKey.toString())).toBe(false)
    holders.circle = PEERS.slice(5)
    await pass(holders.clock, (TTLS.runningTtlMs / 3) * 1.2)
    for (const { peer } of holders.circle) expect(holders.sharersAt(peer)).toBe(1)
    await announcer.stop()
  })

  test('gives back what it no longer uses, and only then', async () => {
    const holders = new Holders(new FakeClock())
    const { use, leases, announcer } = await start(holders)
    await use([share()])
    await until(() => holders.sharersAt('holder-19') === 1)
    expect(leases.offer([imageNumber(1)])).toHaveLength(1)
    expect(leases.offer([imageNumber(2)])).toHaveLength(0)
    await use([share({ running: false })])
    await until(() => holders.puts.at(-1)?.lease.runningUntilMs === 0)
    expect(holders.sharersAt('holder-0')).toBe(1)
    await use([])
    await until(() => holders.sharersAt('holder-19') === 0)
    expect(holders.puts.at(-1)!.lease).toMatchObject({ givenBack: true })
    expect(leases.offer([imageNumber(1)])).toHaveLength(0)
    await announcer.stop()
  })

  test('gives back to all whom it told: those who could not be reached, replicas, and who is no longer a holder', async () => {
    const holders = new Holders(new FakeClock())
    holders.circle = PEERS.slice(0, 15)
    const { use, announcer } = await start(holders, [], PEERS.slice(18))
    await use([share()])
    await until(() => holders.sharersAt('holder-19') === 1)
    holders.circle = PEERS.slice(0, 13)
    holders.down.add('holder-3').add('holder-18')
    await use([])
    await until(() => holders.sharersAt('holder-19') === 0)
    expect(holders.sharersAt('holder-14')).toBe(0)
    expect(holders.sharersAt('holder-3')).toBe(1)
    holders.down.clear()
    await pass(holders.clock, 5 * 60_000)
    expect(holders.sharersAt('holder-3')).toBe(0)
    expect(holders.sharersAt('holder-18')).toBe(0)
    await announcer.stop()
  })

  test('gives back after a restart what was removed while nobody could be reached', async () => {
    const holders = new Holders(new FakeClock())
    const first = await start(holders)
    await first.use([share(), share({ release: `${RELEASE}.2` })])
    await until(() => holders.puts.length === 40)
    for (const { peer } of PEERS) holders.down.add(peer)
    await first.use([share({ release: `${RELEASE}.2` })])
    await first.announcer.stop()
    expect(holders.sharersAt('holder-0')).toBe(1)
    holders.down.clear()
    const second = await start(holders, [share({ release: `${RELEASE}.2` })])
    await until(() => holders.sharersAt('holder-19') === 0)
    expect(holders.puts.filter(({ lease }) => lease.givenBack).every(({ lease }) => lease.release === RELEASE)).toBe(
      true
    )
    await second.announcer.stop()
  })

  test('that seems to be alone does not take its own word for everybody’s when it gives back', async () => {
    const holders = new Holders(new FakeClock())
    const first = await start(holders, [share()])
    await until(() => holders.puts.length === 20)
    await first.announcer.stop()
    holders.circle = PEERS.slice(0, 1)
    const second = await start(holders)
    await until(() => holders.sharersAt('holder-0') === 0)
    expect(holders.sharersAt('holder-19')).toBe(1)
    holders.circle = PEERS
    await pass(holders.clock, 120_000)
    expect(holders.sharersAt('holder-19')).toBe(0)
    expect(second.plan.size).toBe(0)
    await second.announcer.stop()
  })

  test('goes on under the same name, with higher numbers, when its clock is set back over a restart', async () => {
    const holders = new Holders(new FakeClock())
    const first = await start(holders)
    await first.use([share()])
    await until(() => holders.puts.length === 20)
    await first.announcer.stop()
    const { sequence, signer } = holders.puts.at(-1)!.lease
    holders.clock.jump(-HOUR_MS)
    const second = await start(holders, [share({ running: false })])
    await until(() => holders.puts.length === 40)
    expect(holders.puts.at(-1)!.lease.sequence).toBeGreaterThan(sequence)
    expect(holders.puts.at(-1)!.lease.signer).toBe(signer)
    await second.use([])
    await until(() => holders.sharersAt('holder-19') === 0)
    await second.announcer.stop()
  })

  test('says so in the log when its clock makes all refuse it', async () => {
    const holders = new Holders(new FakeClock())
    const { use, announcer } = await start(holders)
    const real = holders.clock.now()
    const put = holders.holders
    // The holders live a day later.
    for (const [peer, holder] of put) {
      const late = holder.put.bind(holder)
      holder.put = (record, now) => late(record, now + DAY_MS)
      put.set(peer, holder)
    }
    await use([share({ keep: false })])
    await until(() => log.lines.some(({ level, message }) => level === 'warn' && message.includes('clocks')))
    expect(holders.clock.now()).toBe(real)
    await announcer.stop()
  })
})

describe('in a crowd', () => {
  test('a lease far above what holders keep rests, one question a TTL, until there is room again', async () => {
    const holders = new Holders(new FakeClock())
    holders.crowd(1e-6)
    const { use, announcer } = await start(holders)
    await use([share({ keep: false })])
    await until(() => holders.puts.length === 20)
    await pass(holders.clock, 10 * TTLS.runningTtlMs)
    expect(holders.puts).toHaveLength(20)
    expect(holders.questions.length).toBeGreaterThanOrEqual(9)
    expect(holders.questions.length).toBeLessThanOrEqual(14)
    expect(new Set(holders.questions).size).toBeGreaterThan(4)
    // The crowd leaves without a word, and this one is seen again within a TTL.
    holders.clock.jump(DAY_MS)
    await pass(holders.clock, TTLS.runningTtlMs)
    for (const { peer } of PEERS) expect(holders.sharersAt(peer)).toBe(1)
    await announcer.stop()
  })

  test('one holder that pretends to be full keeps the lease from itself only', async () => {
    const holders = new Holders(new FakeClock())
    const liar = holders.holders.get('holder-3')!
    const find = liar.getSharers.bind(liar)
    liar.getSharers = (...args) => {
      const { found, changes } = find(...args)
      return { found: { ...found, threshold: 1e-9 }, changes }
    }
    const { use, announcer } = await start(holders)
    await use([share()])
    await until(() => holders.puts.length === 20)
    await pass(holders.clock, TTLS.runningTtlMs * 2)
    const renewed = (peer: string) => holders.puts.filter(put => put.peer === peer).length
    expect(renewed('holder-3')).toBeLessThan(renewed('holder-4'))
    expect(renewed('holder-4')).toBeGreaterThanOrEqual(6)
    // For one TTL at a time.
    expect(renewed('holder-3')).toBeGreaterThanOrEqual(2)
    await announcer.stop()
  })
})
