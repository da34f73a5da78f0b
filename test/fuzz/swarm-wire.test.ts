/**
 * Every decoder of the wire, on arbitrary and on mutated bytes: WIRE_INVALID or BLOCK_INVALID, or a value within its bounds; never
 * another error, and never more memory than the bounds allow.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../src/cluster.ts'
import { RowanError } from '../../src/errors.ts'
import { compressBlock, plainBlock } from '../../src/swarm/compression.ts'
import { FrameParser } from '../../src/swarm/frame-parser.ts'
import { encodeBlockFrame, encodeFrame, FRAME, type Frame, type FrameType, type Role } from '../../src/swarm/frames.ts'
import * as messages from '../../src/swarm/messages.ts'
import { blockBytes } from '../unit/swarm/support.ts'

const SEED = 20_261_122
const RUNS = 2000

const ref = fc.record({ level: fc.nat({ max: 3 }), position: fc.nat({ max: 131_071 }) })
const blocks = fc.array(fc.nat({ max: 2 ** 27 - 1 }), { maxLength: 512 })
const rank = fc.constantFrom<messages.Rank[]>(0, 1, 2, 3)
const bytes = (maxLength: number) => fc.uint8Array({ maxLength })

/** Valid frames of every type, each with its sender and its reader. */
const kinds: { type: FrameType; from: Role; read: (frame: Frame) => unknown; valid: fc.Arbitrary<Uint8Array> }[] = [
  {
    type: FRAME.hello,
    from: 'server',
    read: messages.readHello,
    valid: fc.tuple(fc.string(), fc.nat({ max: 16 })).map(([agent, records]) => messages.helloFrame(agent, records))
  },
  {
    type: FRAME.open,
    from: 'requester',
    read: messages.readOpen,
    valid: fc.uint8Array({ minLength: 32, maxLength: 32 }).map(id => messages.openFrame(1, id, 1))
  },
  {
    type: FRAME.image,
    from: 'server',
    read: messages.readImage,
    valid: fc
      .record({ root: bytes(54), top: bytes(300), complete: fc.boolean(), follow: fc.nat(), profile: bytes(300) })
      .map(answer => messages.imageFrame(1, answer))
  },
  {
    type: FRAME.getNodes,
    from: 'requester',
    read: messages.readGetNodes,
    valid: fc.tuple(fc.array(ref, { maxLength: 64 }), rank).map(([refs, r]) => messages.getNodesFrame(1, refs, r))
  },
  {
    type: FRAME.nodes,
    from: 'server',
    read: messages.readNodes,
    valid: fc
      .tuple(fc.array(fc.tuple(ref, bytes(200)), { maxLength: 20 }), fc.array(ref, { maxLength: 64 }))
      .map(([parts, missing]) =>
        messages.nodesFrame(
          1,
          parts.map(([place, body]) => ({ ...place, bytes: body })),
          missing
        )
      )
  },
  {
    type: FRAME.want,
    from: 'requester',
    read: messages.readWant,
    valid: fc
      .tuple(blocks, rank, fc.boolean(), fc.boolean())
      .map(([b, r, zstd, onBehalf]) => messages.wantFrame(1, b, r, zstd, onBehalf))
  },
  {
    type: FRAME.raise,
    from: 'requester',
    read: messages.readRaise,
    valid: fc
      .tuple(fc.array(fc.nat({ max: 2 ** 27 - 1 }), { maxLength: 400 }), fc.array(ref, { maxLength: 64 }), rank)
      .map(([b, refs, r]) => messages.raiseFrame(1, b, refs, r))
  },
  {
    type: FRAME.cancel,
    from: 'requester',
    read: messages.readCancel,
    valid: blocks.map(b => messages.cancelFrame(1, b))
  },
  {
    type: FRAME.missing,
    from: 'server',
    read: messages.readMissing,
    valid: blocks.map(b => messages.missingFrame(1, b, 'refused'))
  },
  {
    type: FRAME.have,
    from: 'server',
    read: messages.readHave,
    valid: fc
      .tuple(
        fc.array(fc.record({ page: fc.nat(), bitmap: fc.uint8Array({ minLength: 128, maxLength: 128 }) }), {
          maxLength: 30
        }),
        fc.boolean()
      )
      .map(([pages, helps]) => messages.haveFrame(1, false, pages, helps))
  },
  {
    type: FRAME.busy,
    from: 'server',
    read: messages.readBusy,
    valid: fc
      .array(
        fc.record({
          peer: fc.string({ maxLength: 100 }),
          addresses: fc.array(fc.string({ maxLength: 60 }), { maxLength: 8 })
        }),
        {
          maxLength: 16
        }
      )
      .map(others => messages.busyFrame(others, 7))
  },
  {
    type: FRAME.problem,
    from: 'server',
    read: messages.readProblem,
    valid: fc.tuple(fc.string(), fc.string()).map(([code, message]) => messages.problemFrame(code, message))
  }
]

function parsed(stream: Uint8Array, from: Role): Frame | undefined {
  const parser = new FrameParser(from)
  parser.push(stream)
  return parser.next()
}

/** Runs `read`; anything but a RowanError with one of these codes is a failure. */
function refusesOrReturns(read: () => unknown, codes: string[]): void {
  try {
    read()
  } catch (error) {
    if (!(error instanceof RowanError) || !codes.includes(error.code)) throw error
  }
}

describe('wire decoders', () => {
  for (const { type, from, read, valid } of kinds) {
    test(`type ${type}: what was written is read, what is mutated or arbitrary does no harm`, () => {
      fc.assert(
        fc.property(valid, frame => void read(parsed(frame, from)!)),
        { seed: SEED, numRuns: 300 }
      )
      const mutation = fc.tuple(valid, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 8 }), fc.nat())
      fc.assert(
        fc.property(mutation, ([frame, changes, cut]) => {
          const body = frame.slice(12)
          for (const [at, value] of changes) if (body.byteLength > 0) body[at % body.byteLength] = value
          const shorter = cut % 3 === 0 ? body.subarray(0, cut % (body.byteLength + 1)) : body
          refusesOrReturns(() => read(parsed(encodeFrame(type, 1, shorter), from)!), ['WIRE_INVALID'])
        }),
        { seed: SEED, numRuns: RUNS }
      )
      fc.assert(
        fc.property(bytes(60), body => {
          refusesOrReturns(() => read(parsed(encodeFrame(type, 1, body), from)!), ['WIRE_INVALID'])
        }),
        { seed: SEED, numRuns: RUNS }
      )
    })
  }
})

describe('frame parser', () => {
  const frame = fc.oneof(
    fc.tuple(fc.nat({ max: 65_535 }), bytes(3000)).map(([n, body]) => encodeBlockFrame(n, n, body, false)),
    fc
      .tuple(fc.constantFrom<FrameType[]>(FRAME.have, FRAME.nodes, FRAME.missing), bytes(500))
      .map(([type, body]) => encodeFrame(type, 3, body))
  )

  test('finds the same frames however the bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 1 }),
        (frames, cuts) => {
          const stream = Buffer.concat(frames)
          const parser = new FrameParser('server')
          const found: Buffer[] = []
          for (let at = 0, i = 0; at < stream.byteLength; i++) {
            const size = cuts[i % cuts.length]!
            parser.push(stream.subarray(at, at + size))
            at += size
            for (let next = parser.next(); next !== undefined; next = parser.next()) found.push(Buffer.from(next.body))
          }
          expect(Buffer.concat(found)).toEqual(Buffer.concat(frames.map(bytesOf => bytesOf.subarray(12))))
          expect(found).toHaveLength(frames.length)
          expect(parser.pendingBytes).toBe(0)
        }
      ),
      { seed: SEED, numRuns: 300 }
    )
  })

  test('refuses or waits on arbitrary bytes, and never keeps more than came', () => {
    fc.assert(
      fc.property(
        fc.array(bytes(100), { maxLength: 20 }),
        fc.constantFrom<Role[]>('server', 'requester'),
        (pieces, from) => {
          const parser = new FrameParser(from)
          let total = 0
          refusesOrReturns(() => {
            for (const piece of pieces) {
              parser.push(piece)
              total += piece.byteLength
              while (parser.next() !== undefined);
              expect(parser.pendingBytes).toBeLessThanOrEqual(total)
            }
          }, ['WIRE_INVALID'])
        }
      ),
      { seed: SEED, numRuns: RUNS }
    )
  })
})

describe('compressed blocks', () => {
  const compressed = compressBlock(blockBytes(1, 1, true))!

  test('arbitrary and mutated bytes inflate to one block, or not at all', () => {
    const mutated = fc
      .array(fc.tuple(fc.nat({ max: compressed.byteLength - 1 }), fc.nat({ max: 255 })), { maxLength: 6 })
      .map(changes => {
        const body = Uint8Array.from(compressed)
        for (const [at, value] of changes) body[at] = value
        return body
      })
    fc.assert(
      fc.property(fc.oneof(mutated, bytes(200)), body => {
        refusesOrReturns(() => expect(plainBlock(body, true).byteLength).toBe(BLOCK_SIZE_BYTES), ['BLOCK_INVALID'])
      }),
      { seed: SEED, numRuns: RUNS }
    )
  })
})
