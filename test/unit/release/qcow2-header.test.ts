import { describe, expect, test } from 'vitest'
import { checkQcow2, isQcow, QCOW2_HEADER_BYTES } from '../../../src/release/qcow2-header.ts'

/** A header of version 3 as QEMU writes it, without extensions. */
function header(change: (view: DataView, bytes: Buffer) => void = () => {}, sizeBytes = 4096): Buffer {
  const bytes = Buffer.alloc(sizeBytes)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  view.setUint32(0, 0x514649fb)
  view.setUint32(4, 3)
  view.setUint32(20, 16)
  view.setBigUint64(24, 10n * 1024n ** 3n)
  view.setUint32(100, 104)
  change(view, bytes)
  return bytes
}

function extension(type: number, data: string, at = 104) {
  return (view: DataView, bytes: Buffer) => {
    view.setUint32(at, type)
    view.setUint32(at + 4, data.length)
    bytes.write(data, at + 8, 'latin1')
  }
}

const check = (bytes: Uint8Array, fileBytes = 1024 ** 2) => checkQcow2(bytes, fileBytes, 'disk.qcow2')
const code = (name: string, says = '') =>
  expect.objectContaining({ code: name, message: expect.stringContaining(says) })

test('the magic', () => {
  expect(isQcow(header())).toBe(true)
  expect(isQcow(Buffer.from('QFI'))).toBe(false)
  expect(isQcow(Buffer.alloc(512))).toBe(false)
})

test('an image on its own, of version 2 and 3', () => {
  expect(check(header())).toEqual({ sizeBytes: 10 * 1024 ** 3, version: 3 })
  expect(check(header(view => view.setUint32(4, 2)))).toMatchObject({ version: 2 })
  // Lazy reference counts, another compression, sub-clusters; a table of feature names, bitmaps.
  expect(check(header(view => view.setBigUint64(72, 1n | 8n | 16n)))).toBeDefined()
  expect(check(header(extension(0x6803f857, 'x'.repeat(48))))).toBeDefined()
})

test('so many clusters that checking them would fill the memory', () => {
  const small = header(view => view.setUint32(20, 9))
  expect(check(small, 64 * 1024 ** 3)).toBeDefined()
  expect(() => check(small, 64 * 1024 ** 3 + 1)).toThrow(code('IMAGE_FORMAT', '134217729 clusters'))
  expect(check(header(), 8 * 1024 ** 4)).toBeDefined()
})

describe('what refers to something outside', () => {
  test('a backing file', () => {
    const bytes = header((view, buffer) => {
      view.setBigUint64(8, 1000n)
      view.setUint32(16, 11)
      buffer.write('/etc/shadow', 1000)
    })
    expect(() => check(bytes)).toThrow(code('IMAGE_HAS_BACKING', '/etc/shadow'))
    // Also where its name cannot be shown.
    for (const offset of [4096n, 2n ** 63n, 2n ** 64n - 1n]) {
      expect(() => check(header(view => view.setBigUint64(8, offset)))).toThrow(code('IMAGE_HAS_BACKING'))
    }
  })

  test('what could stand behind the part that is looked at', () => {
    const padding = (view: DataView) => {
      view.setUint32(20, 21)
      view.setUint32(104, 0x6803f857)
      view.setUint32(108, QCOW2_HEADER_BYTES - 112)
    }
    expect(() => check(header(padding, QCOW2_HEADER_BYTES))).toThrow(code('IMAGE_FORMAT', 'cut short'))
  })

  test('an external data file, by its bit or by its name', () => {
    expect(() => check(header(view => view.setBigUint64(72, 4n)))).toThrow(code('IMAGE_HAS_BACKING'))
    expect(() => check(header(extension(0x44415441, '/etc/shadow')))).toThrow(code('IMAGE_HAS_BACKING', '/etc/shadow'))
    const second = header((view, buffer) => {
      extension(0x6803f857, 'x'.repeat(47))(view, buffer) // padded to 48
      extension(0x44415441, '/etc/shadow', 104 + 8 + 48)(view, buffer)
    })
    expect(() => check(second)).toThrow(code('IMAGE_HAS_BACKING', '/etc/shadow'))
    const version2 = header((view, buffer) => {
      view.setUint32(4, 2)
      extension(0x44415441, 'f', 72)(view, buffer)
    })
    expect(() => check(version2)).toThrow(code('IMAGE_HAS_BACKING'))
  })

  test('a name is shown without control characters', () => {
    const bytes = header(extension(0x44415441, 'a\x1b[2Jb\n'))
    expect(() => check(bytes)).toThrow(code('IMAGE_HAS_BACKING', '"a?[2Jb?"'))
  })
})

test.each([
  ['encrypted', (view: DataView) => view.setUint32(32, 2)],
  ['encrypted', extension(0x0537be77, 'x'.repeat(16))],
  ['corrupt', (view: DataView) => view.setBigUint64(72, 2n)],
  ['0x8000000000000000', (view: DataView) => view.setBigUint64(72, 2n ** 63n)],
  ['version 1', (view: DataView) => view.setUint32(4, 1)],
  ['version 4', (view: DataView) => view.setUint32(4, 4)],
  ['clusters', (view: DataView) => view.setUint32(20, 8)],
  ['clusters', (view: DataView) => view.setUint32(20, 22)],
  ['header length', (view: DataView) => view.setUint32(100, 96)],
  ['header length', (view: DataView) => view.setUint32(100, 5000)],
  ['cut short', (view: DataView) => view.setUint32(104, 1) ?? view.setUint32(108, 0xffffffff)]
])('refused: %s', (says, change) => {
  expect(() => check(header(change))).toThrow(code('IMAGE_FORMAT', says))
})

test('sizes that no disk has', () => {
  expect(() => check(header(view => view.setBigUint64(24, 0n)))).toThrow(code('IMAGE_EMPTY'))
  expect(() => check(header(view => view.setBigUint64(24, 2n ** 43n)))).not.toThrow()
  expect(() => check(header(view => view.setBigUint64(24, 2n ** 43n + 1n)))).toThrow(code('IMAGE_TOO_LARGE'))
})

test('a file that ends in its header', () => {
  for (const length of [4, 71, 72, 103]) {
    expect(() => check(header().subarray(0, length))).toThrow(code('IMAGE_FORMAT', 'cut short'))
  }
  expect(check(header().subarray(0, 104))).toBeDefined()
  expect(() => check(header().subarray(0, 108))).toThrow(code('IMAGE_FORMAT', 'cut short'))
})

test('a file that ends before the table of its clusters does', () => {
  const bytes = header(view => {
    view.setUint32(36, 20)
    view.setBigUint64(40, 196_608n)
  })
  expect(check(bytes, 196_608 + 160)).toBeDefined()
  expect(() => check(bytes, 196_608 + 159)).toThrow(code('IMAGE_FORMAT', 'cut short'))
})

test('more extensions than anybody needs', () => {
  const bytes = header((view, _buffer) => {
    for (let at = 104; at < 60_000; at += 8) view.setUint32(at, 1)
  }, 65536)
  expect(() => check(bytes)).toThrow(code('IMAGE_FORMAT', 'more than 64'))
})
