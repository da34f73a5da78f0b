import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ApplianceMemory } from '../../../src/directory/appliance-memory.ts'
import { Holder } from '../../../src/directory/holder.ts'
import type { HolderCircle, Put } from '../../../src/directory/holder-circle.ts'
import { OwnReplicas } from '../../../src/directory/own-replicas.ts'
import { openReplica } from '../../../src/directory/replica-record.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { ManualClock } from '../release/support/clock.ts'
import { HOUR_MS, imageNumber, recordingLog, replicaEntry, seeded } from './support.ts'

const IMAGE = imageNumber(1)

describe('own replicas', () => {
  let folder: string
  let catalog: Catalog
  let own: OwnReplicas
  /** One holder, and the puts that are on their way to it. */
  let holder: Holder
  let onTheWay: (() => Promise<void>)[]
  const clock = new ManualClock()
  const { signal } = new AbortController()

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rowan-own-'))
    catalog = await Catalog.open(folder)
    const log = recordingLog()
    holder = new Holder({ random: seeded(1) }, { quotaBytes: 1_000_000 })
    onTheWay = []
    const circle = {
      put: (_key: Uint8Array, { record }: Put) =>
        new Promise(resolve => {
          onTheWay.push(async () => {
            const { image: key, peer: signer, sequence, expiresMs } = await openReplica(record)
            holder.put({ ...replicaEntry(), key, signer, sequence, expiresMs, bytes: record }, clock.now())
            resolve({ asked: 1, kept: 1, refused: [] })
          })
        })
    } as unknown as HolderCircle
    own = new OwnReplicas({
      ...{ circle, catalog, clock, log },
      memory: await ApplianceMemory.open({ catalog, log }),
      privateKey: await generateKeyPair('Ed25519'),
      addresses: () => ['/ip4/192.0.2.1/tcp/4001']
    })
    await own.start()
  })
  afterEach(async () => {
    await catalog.close()
    await rm(folder, { recursive: true, force: true })
  })

  const announce = (ttlMs: number) => own.announce({ image: IMAGE, complete: true }, ttlMs, signal)
  const held = () => holder.getReplicas(IMAGE, clock.now()).replicas.length

  /** Lets puts arrive until all is done; of two that are under way together, the later one first. */
  async function arrive(all: Promise<unknown>[]): Promise<void> {
    let isDone = false
    const done = Promise.all(all).finally(() => {
      isDone = true
    })
    for (let waits = 0; !isDone; waits++) {
      if (onTheWay.length === all.length || waits % 20 === 19) await onTheWay.pop()?.()
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    await done
  }

  test('what is withdrawn while it is being renewed is announced no more', async () => {
    await arrive([announce(HOUR_MS)])
    expect(held()).toBe(1)
    clock.advance(1)
    await arrive([announce(HOUR_MS), announce(0)])
    expect(held()).toBe(0)
  })

  test('what is announced while it is being withdrawn is announced', async () => {
    await arrive([announce(HOUR_MS)])
    await arrive([announce(0), announce(HOUR_MS)])
    expect(held()).toBe(1)
  })
})
